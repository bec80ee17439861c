"""Small programs that the bundled images carry in /opt/podlab/bin: standard library only, one file each."""
