"""From a picture to a mesh: background removed, a backend by name, files, and a turntable."""

from magictailor.mesh.make import MeshResult, make_mesh

__all__ = ["MeshResult", "make_mesh"]
