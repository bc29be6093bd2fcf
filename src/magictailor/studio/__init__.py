"""The studio: from photos to a LoRA in the browser. A server that starts jobs, listens to them, and serves one page.

What the page does is done by functions of this folder (`workspace`, `pairs`, `masks`, `jobs`, `gallery`), which know nothing of
the network. Each job is a process of its own and outlives the server.
"""
