# One user only, as the tests need no other: without root a pod has one id.
FROM conformance/debian:1
COPY files/nginx.conf /etc/nginx/nginx.conf
COPY files/index.html /usr/share/nginx/html/index.html
EXPOSE 80
CMD ["nginx", "-g", "daemon off;"]
