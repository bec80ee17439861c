FROM scratch
COPY bin/agnhost /agnhost
USER 65535:65535
ENTRYPOINT ["/agnhost", "pause"]
