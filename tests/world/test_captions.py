"""Captions: every word is one token, all fit, components come in any order, and the full caption names everything."""

import re

from magictailor.generation.protocol import PROMPTS
from magictailor.methods.prompt_words import RARE, TEMPLATES
from magictailor.world.captions import LINKS, VIEW_WORDS, caption, caption_rng, full_caption, full_phrase
from magictailor.world.catalog import CATALOG, CATEGORIES, KINDS, PALETTE, SKINS
from magictailor.world.checks import binding_checks, component_checks
from magictailor.world.scene import Concept, Scene, random_scene
from magictailor.world.tokenizer import LENGTH, build_tokenizer


def vocabulary() -> set[str]:
    """Every word that a caption can contain, as CLIP splits them: digits and punctuation by themselves."""
    phrases = [*TEMPLATES, *LINKS, *RARE, *PALETTE, *SKINS, *CATEGORIES, *KINDS, *PROMPTS.values()]
    phrases += [word for c in CATALOG.values() for k in c.kinds for word in k.variants.values()]
    phrases += [word for words in VIEW_WORDS.values() for word in words]
    phrases += "at the beach", "style", "skin", "an", "in", "wearing", "painting", "drawing", "object", "face", "v", "*"
    return split_words(" ".join(phrases).replace("{}", " ")) | set(",.-")


def split_words(text: str) -> set[str]:
    return set(re.sub(r"([,.-])", r" \1 ", text.lower()).replace("3d", "3 d").split())


def test_every_word_of_every_caption_is_one_token_and_none_is_cut() -> None:
    tokenizer = build_tokenizer()
    known = vocabulary()
    assert all(len(tokenizer(w, add_special_tokens=False).input_ids) == 1 for w in known)
    for seed in range(1500):
        scene = random_scene(seed)
        for text in (caption(scene, caption_rng(seed, 0)), full_caption(scene) if scene.subjects else ""):
            assert len(tokenizer(text).input_ids) <= LENGTH
            assert split_words(text) <= known, text


def test_words_outside_the_vocabulary_fall_back_to_bytes() -> None:
    tokenizer = build_tokenizer()
    ids = tokenizer("Zürich ☃", add_special_tokens=False).input_ids
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == "zürich ☃"


def _longest(scene: Scene) -> int:
    """No caption of the scene has more tokens: all that it can name at once, in the longest template, with start and end."""

    def count(text: str) -> int:
        return len(re.findall(r"[,.-]|[^\s,.-]+", text.replace("{}", "").replace("3d", "3 d")))

    subjects = sum(count(full_phrase(s)) for s in scene.subjects)
    shown = [c for s in scene.subjects for c in (s.components if isinstance(s, Concept) else (s,))]
    extra = sum(c.spec.bare for c in shown) + len(["a", "style", "and", "a"]) * len(scene.subjects) + len(["sks"])
    clauses = sum(count(f", {PROMPTS[p]}") for p in (scene.context, scene.treatment, scene.view) if p in PROMPTS)
    return 2 + max(map(count, (*TEMPLATES, "a close-up photo of the {}"))) + subjects + extra + clauses


def test_every_caption_of_the_grammar_is_within_77_tokens() -> None:
    """A word is a token, as the first test says."""
    longest, tokenizer = [_longest(random_scene(seed)) for seed in range(10_000)], build_tokenizer()
    assert max(longest) <= LENGTH
    for seed in range(500):
        scene = random_scene(seed)
        texts = [caption(scene, caption_rng(seed, number)) for number in range(4)]
        assert all(len(tokenizer(text).input_ids) <= longest[seed] for text in texts)


def test_one_caption_in_ten_is_empty() -> None:
    empty = sum(caption(random_scene(s), caption_rng(s, 1)) == "" for s in range(2000))
    assert 150 < empty < 250


def test_components_come_in_any_order_and_a_close_up_is_called_one() -> None:
    orders, close = set(), []
    for seed in range(3000):
        scene = random_scene(seed)
        text = caption(scene, caption_rng(seed, 0))
        found = re.findall(r"\b(hair|shirt)\b", text)
        if len(scene.subjects) == 1 and scene.focus is None and sorted(found) == ["hair", "shirt"]:
            orders.add(tuple(found))
        if scene.focus is not None and text:
            close.append(any(word in text for word in ("close-up", "zoomed in", "close up")))
        if scene.view == "far" and text:
            assert "zoomed in" not in text
    assert orders == {("hair", "shirt"), ("shirt", "hair")}
    assert 0.65 < sum(close) / len(close) < 0.85


def test_binding_checks_name_two_colours_variant_and_context() -> None:
    checks = binding_checks()
    assert len(checks) == 64
    assert [c.caption for c in checks] == [c.caption for c in binding_checks()]
    for check in checks:
        component, concept = check.component, check.concept
        second = concept.color if check.second == "body" else concept.own(check.second).color
        assert component.color is not None
        assert second is not None
        assert component.color.name != second.name
        assert component.variant in component.spec.trained
        named = (concept.category, component.color.name, second.name, component.word, component.kind)
        assert all(word in check.caption.split(",")[0] for word in named)
        assert check.caption == full_caption(check.scene)
    words = {(c.component.category, c.component.kind, c.component.word) for c in component_checks()}
    assert len(words) == len(component_checks())
    assert all(not isinstance(c.scene.subjects[0], Concept) for c in component_checks())
