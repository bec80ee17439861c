FROM registry.k8s.io/e2e-test-images/busybox:1.37.0-2
USER 1234
