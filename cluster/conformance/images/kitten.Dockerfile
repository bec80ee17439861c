FROM registry.k8s.io/e2e-test-images/agnhost:2.66.1
COPY upstream/kitten/html/kitten.jpg upstream/kitten/html/data.json /
# What upstream's image stands on: a test reads this file out of an image volume.
COPY files/os-release /etc/os-release
CMD ["test-webserver"]
