"""The studio's server: a thin shell over `magictailor.studio.studio.Studio`."""
