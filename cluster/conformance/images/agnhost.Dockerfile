FROM conformance/debian:1
COPY bin/agnhost /agnhost
COPY agnhost/ /
COPY upstream/agnhost/porter/localhost.crt upstream/agnhost/porter/localhost.key /
EXPOSE 80 8080 8081 9376 5000
ENTRYPOINT ["/agnhost"]
CMD ["pause"]
