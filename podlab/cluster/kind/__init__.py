"""Clusters made by kind: Kubernetes nodes as containers of Docker, Podman or nerdctl."""
