FROM conformance/debian:1
COPY bin/etcd /usr/local/bin/etcd
EXPOSE 2379 2380
CMD ["etcd"]
