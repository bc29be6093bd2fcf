"""Captions: every word is one token, and the full caption names everything."""

import json

from magictailor.world.captions import caption, caption_rng, full_caption, vocabulary
from magictailor.world.checks import binding_checks, component_checks, concept_of
from magictailor.world.embedded import WEIGHTS
from magictailor.world.scene import STYLES, random_scene
from magictailor.world.tokenizer import build_tokenizer


def test_every_word_of_every_caption_is_one_token() -> None:
    tokenizer = build_tokenizer()
    assert all(len(tokenizer(w, add_special_tokens=False).input_ids) == 1 for w in vocabulary())
    for seed in range(300):
        text = caption(random_scene(seed), caption_rng(seed, 0)).lower()
        for mark in ",-.":
            text = text.replace(mark, f" {mark} ")
        words = [w for part in text.split() for w in (["3", "d"] if part == "3d" else [part])]
        assert set(words) <= set(vocabulary()), text


def test_words_outside_the_vocabulary_fall_back_to_bytes() -> None:
    tokenizer = build_tokenizer()
    ids = tokenizer("Zürich ☃", add_special_tokens=False).input_ids
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == "zürich ☃"


def test_one_caption_in_ten_is_empty() -> None:
    empty = sum(caption(random_scene(s), caption_rng(s, 1)) == "" for s in range(2000))
    assert 150 < empty < 250


def test_binding_checks_name_two_colours_style_and_context() -> None:
    checks = binding_checks()
    assert len(checks) == 48
    assert [c.caption for c in checks] == [c.caption for c in binding_checks()]
    for check in checks:
        concept = concept_of(check)
        part = concept.components[0]
        assert concept.surface.name != part.surface.name
        named = (concept.category, concept.surface.name, part.surface.name, part.style, part.kind)
        assert all(word in check.caption.split(",")[0].split() for word in named)
        assert check.caption == full_caption(check.scene)
    assert len(component_checks()) == sum(map(len, STYLES.values()))


def test_the_tokenizer_is_the_one_beside_the_weights() -> None:
    shipped = json.loads((WEIGHTS / "tokenizer" / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    vocab = build_tokenizer().get_vocab()
    assert all(vocab[token] == number for token, number in shipped.items())
