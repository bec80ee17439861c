"""The commands of `podlab`, one module each, loaded by podlab.cli only when they are used."""
