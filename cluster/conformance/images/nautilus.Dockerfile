FROM registry.k8s.io/e2e-test-images/agnhost:2.66.1
COPY upstream/nautilus/html/nautilus.jpg upstream/nautilus/html/data.json /
CMD ["test-webserver"]
