# What the others stand on: a closure of Debian packages, unpacked without their install scripts (debian.py).
FROM scratch
COPY debian/ /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
