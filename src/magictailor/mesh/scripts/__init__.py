"""What runs in a backend's own Python: files of their own that import nothing of this package. See `magictailor.mesh.own_python`."""
