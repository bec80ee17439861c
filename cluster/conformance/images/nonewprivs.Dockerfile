FROM registry.k8s.io/e2e-test-images/busybox:1.37.0-2
COPY --chmod=4755 bin/nonewprivs /usr/local/bin/nnp
CMD ["nnp"]
