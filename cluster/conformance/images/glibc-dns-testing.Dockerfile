FROM conformance/debian:1
CMD ["bash"]
