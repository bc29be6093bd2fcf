"""What the package's sites share: the theme, protection of requests, and serving."""
