FROM conformance/debian:1
COPY bin/sample-apiserver /sample-apiserver
ENTRYPOINT ["/sample-apiserver"]
