"""The list of hostile requests, as data: One entry is one request that must get a 4xx."""

import json
from typing import Any

TRAVERSALS = (
    "..%2f", "%2e%2e", "%2e%2e%2f", "..%5c", "....//", "%252e%252e%252f", "..%00", "%00", "/etc/passwd",
    "//etc/passwd", "%2fetc%2fpasswd", "C:%5cwindows", "..;/", ".%2e/", "%c0%ae%c0%ae/", "~", "-", ".ssh", "a/../../b",
)  # fmt: skip
PATHS = (
    "/api/pairs/{}", "/api/pairs/{}/photos/a.png", "/api/pairs/demo/photos/{}", "/api/pairs/demo/photos/{}/thumb",
    "/api/images/{}/00001", "/api/images/00001-generate/{}", "/api/jobs/{}/log",
)  # fmt: skip
SCRIPTS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "a\u0000b",
)
SPECS: tuple[dict[str, Any], ...] = (
    {}, {"kind": "shell"}, {"kind": "train"}, {"kind": "train", "pair": "../../etc"}, {"kind": "train", "pair": "demo", "model": "/etc"},
    {"kind": "train", "pair": "demo", "model": "../../etc"}, {"kind": "train", "pair": "demo", "model": "models/../../x"},
    {"kind": "train", "pair": "demo", "loras": ["/etc/passwd"]}, {"kind": "train", "pair": "demo", "loras": ["../x.safetensors"]},
    {"kind": "train", "pair": "demo", "settings": ["__class__=x"]}, {"kind": "train", "pair": "demo", "settings": ["seed=1"] * 500},
    {"kind": "train", "pair": "demo", "method": "../../x"}, {"kind": "train", "pair": "demo", "start": "../x"},
    {"kind": "train", "pair": "demo", "device": "cuda; rm -rf /"}, {"kind": "train", "pair": "demo", "evil": 1},
    {"kind": "generate", "runs": [], "prompts": ["x"]}, {"kind": "generate", "runs": ["../x"], "prompts": ["x"]},
    {"kind": "generate", "runs": ["00001-train"], "prompts": ["x"], "number": 10**9},
    {"kind": "generate", "runs": ["00001-train"], "prompts": ["x" * 501]}, {"kind": "generate", "runs": ["00001-train"], "prompts": ["x"], "seed": -1},
    {"kind": "export", "run": "../x", "formats": ["kohya"]}, {"kind": "export", "run": "x", "formats": ["pickle"]},
    {"kind": "export", "run": "x", "formats": ["kohya"], "target": "/etc"}, {"kind": "masks", "pair": "../x", "model": "embedded"},
    {"kind": "masks", "pair": "demo", "model": "os.system"}, {"kind": "masks", "pair": "demo", "model": "embedded", "threshold": 9},
)  # fmt: skip


def attacks() -> list[dict[str, Any]]:
    """Each: name, method, path, and what differs from an ordinary request (headers, json, body, token)."""
    found: list[dict[str, Any]] = []

    def add(name: str, method: str, path: str, **more: Any) -> None:
        found.append({"name": name, "method": method, "path": path, **more})

    for path in PATHS:
        for part in TRAVERSALS:
            add("traversal", "GET", path.format(part))
    for token in ("", "x", "TOKEN", "null", "0" * 10_000, "' OR 1=1 --"):
        add("wrong token", "GET", "/api/state", token=token)
        add("wrong token in the address", "GET", "/", query=token, token="")
    for origin in (
        "https://evil.example",
        "http://localhost.evil.example",
        "http://127.0.0.1:1",
        "file://",
        "http://testserver@evil.example",
    ):
        add("foreign origin", "POST", "/api/pairs", json={"name": "x", "labels": ["x"]}, headers={"origin": origin})
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "0.0.0.0", "[::2]"):
        add("foreign host", "GET", "/api/state", headers={"host": host})
    for method, path in (
        ("POST", "/api/pairs"),
        ("DELETE", "/api/pairs/demo"),
        ("POST", "/api/jobs/resume"),
        ("POST", "/api/gallery/empty-bin"),
    ):
        add("forged", method, path, json={}, headers={"x-studio": "0"})
        add("forged by another site", method, path, json={}, headers={"sec-fetch-site": "cross-site"})
    for spec in SPECS:
        add("job", "POST", "/api/jobs", json={"spec": spec})
    for text in SCRIPTS:
        add("script as a label", "POST", "/api/pairs", json={"name": "x", "labels": [text]})
        add("script as a word", "PATCH", "/api/pairs/demo/samples/0", json={"label": "figure", "word": text})
        add("script as a file's name", "GET", f"/api/pairs/demo/photos/{text.encode().hex()}%3Cscript%3E")
    for body in (
        "PK\u0003\u0004zip",
        "<svg onload='alert(1)'/>",
        "%!PS",
        "GIF89a",
        "\u0089PNG\r\n\u001a\n" + "0" * 99,
        "RIFF0000WEBP",
        "MM\u0000*",
        "\u00ff\u00d8\u00ff",
    ):
        add("not an image", "POST", "/api/pairs/demo/samples/0/photos?name=x.png", body=body)
    for sample in (-1, 99, 10**30):
        add("no such sample", "POST", f"/api/pairs/demo/samples/{sample}/photos?name=x.png", body="\u00ff\u00d8\u00ff")
    add("huge JSON", "POST", "/api/pairs", raw=300_000)
    add("deep JSON", "POST", "/api/pairs", text="[" * 100_000)
    add("no JSON", "POST", "/api/pairs", text="{")
    add("infinite number", "POST", "/api/pairs/world", text='{"seed": Infinity}')
    add("unknown path", "GET", "/api/../../etc/passwd")
    add("static traversal", "GET", "/static/..%2f..%2fstudio.py")
    add("static absolute", "GET", "/static//etc/passwd")
    add("documentation", "GET", "/openapi.json")
    return found


if __name__ == "__main__":
    print(json.dumps(attacks(), indent=1))
