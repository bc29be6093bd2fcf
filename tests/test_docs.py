"""The documentation and the program agree: links, examples, commands, settings, reference."""

import importlib
import inspect
import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml
from PIL import Image
from pydantic import BaseModel

import magictailor
from magictailor.cli import app
from magictailor.common.events import Event
from magictailor.data import read_pair
from magictailor.evaluate.metrics import WEIGHTS, higher_is_better, make_scorers
from magictailor.evaluate.sources import sources
from magictailor.evaluate.spec import Spec, read_spec
from magictailor.generation.studies import STUDIES
from magictailor.methods import CATALOGUE, METHODS, Method, recipe_for
from magictailor.methods.base_defaults import EMBEDDED, PAPER
from magictailor.recipe import Recipe, with_settings
from magictailor.training.run_folder import METRICS_FILE
from magictailor.world.pairs import world_pair, write_pair
from magictailor.world.training import WorldTraining
from magictailor.world.training.control import ControlTraining
from magictailor.world.training.judge import JudgeTraining
from magictailor.world.training.style import StyleTraining
from tiny import train

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
GUIDES = tuple(page for page in PAGES if page.parent in (ROOT, DOCS))
COMMANDS_PAGE, REFERENCE = DOCS / "reference" / "commands.md", DOCS / "reference" / "index.md"
NOT_RUN = "not run by the tests"  # in the title of a Python block
OTHER_TOOLS = {
    "--multi_gpu",
    "--num_processes",
    "--cpu",
    "--strict",
    "--nproc-per-node",
    "--logdir",
}  # options of other programs


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


# --- Markdown


@dataclass(frozen=True)
class Block:
    """A fenced block. ``info``: the text after the fence's language."""

    language: str
    info: str
    text: str
    line: int


def blocks(page: Path, language: str) -> list[Block]:
    """The page's fenced blocks in a language, also those inside lists."""
    found, opened = [], None
    for number, line in enumerate(text_of(page).splitlines(), 1):
        fence = re.match(r"( *)```(\w*) *(.*)$", line)
        if opened is None and fence:
            opened = (len(fence[1]), fence[2], fence[3], number, [])
        elif opened is not None and fence and not fence[2] and len(fence[1]) == opened[0]:
            indent, kind, info, start, lines = opened
            found.append(Block(kind, info, "\n".join(text[indent:] for text in lines) + "\n", start))
            opened = None
        elif opened is not None:
            opened[-1].append(line)
    assert opened is None, f"{name_of(page)}: line {opened and opened[3]}: a block is not closed"
    return [block for block in found if block.language == language]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^( *)```.*?^\1```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)


def code_spans(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def section(page: Path, heading: str) -> str:
    """The text under a heading, to the next one of the same level or above; a comment in a block is no heading."""
    level, inside, fenced, lines = heading.count("#"), False, False, []
    for line in text_of(page).splitlines():
        fenced ^= line.lstrip().startswith("```")
        if not fenced and inside and re.match(rf"#{{1,{level}}} ", line):
            break
        if inside:
            lines.append(line)
        inside |= not fenced and line == heading
    assert inside, f"{name_of(page)}: no heading {heading!r}"
    return "\n".join(lines)


def table_rows(text: str) -> list[list[str]]:
    """The cells of all table rows without headers and rules."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    rules = {i for i, row in enumerate(cells) if all(re.fullmatch(r"[-: ]+", cell) for cell in row)}
    return [row for i, row in enumerate(cells) if i not in rules and i + 1 not in rules]


def first_codes(text: str) -> list[str]:
    """What is code in the first cell of each table row."""
    return [code for row in table_rows(text) for code in re.findall(r"`([^`]+)`", row[0])]


def anchors(page: Path) -> set[str]:
    """The anchors of the page's headings, where the site and GitHub agree on them, and those of the reference."""
    found = set()
    for heading in re.findall(r"^#{1,6} (.+)$", prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)|[`*]", r"\1", heading).strip().lower()
        kept = re.sub(r"[^\w\s-]", "", plain)
        github, site = kept.replace(" ", "-"), re.sub(r"[-\s]+", "-", kept.strip())
        found |= {github} & {site}
    return found


def documented_objects(page: Path) -> list[str]:
    return re.findall(r"^::: (\S+)$", text_of(page), re.MULTILINE)


def resolve(path: str) -> Any:
    """The object of a dotted path; raises ImportError or AttributeError if there is none."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        try:
            for part in parts[count:]:
                found = getattr(found, part)
        except AttributeError:
            continue  # a function may hide the module of its name
        return found
    raise ImportError(path)


def is_documented_here(page: Path, anchor: str) -> bool:
    """Whether the site's reference makes this anchor on the page: an object there, or a member of one."""
    paths = documented_objects(page)
    return any(anchor == path or anchor.startswith(f"{path}.") for path in paths) and resolve(anchor) is not None


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{target}: no such file"
        if DOCS in page.parents:
            assert DOCS in linked.parents, f"{target}: not in the site"
        if anchor:
            assert anchor in anchors(linked) or is_documented_here(linked, anchor), f"{target}: no such heading"


def test_the_site_has_every_page_in_its_navigation() -> None:
    def leaves(tree: Any) -> Iterator[str]:
        if isinstance(tree, str):
            yield tree
        else:
            for child in tree.values() if isinstance(tree, dict) else tree:
                yield from leaves(child)

    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    assert sorted(leaves(config["nav"])) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
    assert config["strict"] is True
    assert config["theme"]["font"] is False  # fonts would come from a third party


def test_the_readme_has_the_two_commands_as_the_only_code_blocks_there() -> None:
    for heading, last in (("## Try it", "magictailor demo"), ("## Test it", "scripts/check.py")):
        under = section(ROOT / "README.md", heading)
        assert under.count("```") == 2, heading
        assert under.split("```")[1].strip().endswith(last)


# --- Python examples


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with what the examples start from: the pair ``practice`` and the run ``runs/first``.

    Until the tests are over, recipes on the embedded base have one step in each phase.
    """
    defaults: Any = importlib.import_module("magictailor.methods.base_defaults")
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(defaults.BY_FAMILY, "embedded", replace(EMBEDDED, steps=(1, 1), sampling_steps=2))
        write_pair(world_pair(100_000_060), folder / "practice")
        train(folder / "practice", folder / "runs" / "first")
        yield folder


def example_pages() -> list[Path]:
    return [page for page in PAGES if any(NOT_RUN not in block.info for block in blocks(page, "python"))]


@pytest.mark.parametrize("page", example_pages(), ids=name_of)
def test_python_examples_run(
    page: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each block by itself, in a folder that the page's earlier blocks have written to."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    method_module: dict[str, Any] = {}  # of the worked example: a file, then a line of a dictionary
    for block in blocks(page, "python"):
        if NOT_RUN in block.info:
            continue
        place = f"{page.name}, line {block.line}"
        if re.fullmatch(r'"[\w-]+": .+,\n', block.text):
            ((_, added),) = eval(
                compile(f"{{{block.text}}}", place, "eval"), {"Method": Method, **method_module}
            ).items()
            assert isinstance(added, Method), place
            continue
        method_module = {"__name__": "__main__"}
        exec(compile(block.text, place, "exec"), method_module)


def test_few_python_examples_are_left_out() -> None:
    left_out = [block for page in PAGES for block in blocks(page, "python") if NOT_RUN in block.info]
    for block in left_out:
        compile(block.text, "left out", "exec")
        assert "gpu" in block.info.lower()
    assert 1 <= len(left_out) <= 2


# --- commands


def commands(group: Any = None, before: str = "") -> dict[str, Any]:
    """Every command by its name, as it is typed after ``magictailor``."""
    found = {}
    for name, command in (group or typer.main.get_command(app)).commands.items():
        full = f"{before} {name}".strip()
        found |= commands(command, full) if hasattr(command, "commands") else {full: command}
    return found


COMMANDS = commands()


def options(command: Any) -> set[str]:
    return {name for p in command.params if p.name != "help" for name in (*p.opts, *p.secondary_opts) if name[0] == "-"}


def named_command(words: list[str]) -> tuple[str, list[str]]:
    """The command that the words begin with, and the other words."""
    for count in (2, 1):
        if (name := " ".join(words[:count])) in COMMANDS:
            return name, words[count:]
    raise AssertionError(f"magictailor {' '.join(words)}: no such command")


def command_lines(page: Path) -> list[list[str]]:
    """The words after ``magictailor`` of each call in the page's shell blocks."""
    found = []
    for block in blocks(page, "bash"):
        for line in block.text.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                words = shlex.split(part, comments=True)
                starts = [i for i, word in enumerate(words) if Path(word).name == "magictailor"]
                if starts and (starts[0] == 0 or words[starts[0] - 1] == "-m"):
                    found.append(words[starts[0] + 1 :])
    return found


PAGES_WITH_COMMANDS = [page for page in PAGES if command_lines(page)]


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS, ids=name_of)
def test_command_lines_are_understood(page: Path) -> None:
    """Options and arguments parse, and names that they mention exist; nothing is run."""
    for words in command_lines(page):
        name, rest = named_command(words)
        given = COMMANDS[name].make_context(name, list(rest)).params
        settings = list(given.get("settings") or [])
        if name == "train":
            recipe_for("embedded", given["method"], settings)
        elif name == "world train":
            with_settings(WorldTraining(), settings)
        elif name == "world train-judge":
            with_settings(JudgeTraining(), settings)
        elif name == "world train-control":
            with_settings(ControlTraining(), settings)
        elif name == "world train-style":
            with_settings(StyleTraining(), settings)
        elif name == "world pair":
            world_pair(given["seed"], given["challenge"])
        elif name == "generate":
            assert given["study"] is None or given["study"] in STUDIES
        elif name == "export":
            assert given["format"] in importlib.import_module("magictailor.exports").FORMATS
        elif name == "ask":
            assert given["request"] in get_args(importlib.import_module("magictailor.training.requests").RunRequest)


def test_every_command_has_an_example() -> None:
    shown = {named_command(words)[0] for page in GUIDES for words in command_lines(page)}
    assert set(COMMANDS) - shown == set()


def test_every_command_and_option_is_in_the_reference() -> None:
    text = text_of(COMMANDS_PAGE)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == list(COMMANDS)
    for name, command in COMMANDS.items():
        listed = {code for code in first_codes(section(COMMANDS_PAGE, f"## {name}")) if code.startswith("-")}
        assert listed == options(command), name


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_commands_and_options_in_the_text_exist(page: Path) -> None:
    every_option = set().union(*map(options, COMMANDS.values())) | {"--help"} | OTHER_TOOLS
    for span in code_spans(page):
        mentioned = re.findall(r"(?<![\w-])--[a-z][\w-]*", span)
        assert set(mentioned) <= every_option, span
        if span.startswith("magictailor ") and span.split()[1] != "COMMAND":
            words = span.split()[1:]
            if words[0] not in ("world", "bench") or len(words) > 1:
                name, _ = named_command(words)
                assert {m for m in mentioned if m != "--help"} <= options(COMMANDS[name]), span


# --- settings


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)]


def setting_keys(model: type[BaseModel], prefix: str = "") -> dict[str, bool]:
    """Every key of a recipe, ``N`` for the number of an entry of a list; and whether it has keys below it."""
    found: dict[str, bool] = {}
    for name, field in model.model_fields.items():
        below = models_in(field.annotation)
        found[prefix + name] = bool(below)
        listed = "tuple" in str(field.annotation) and below
        for part in below:
            found |= setting_keys(part, f"{prefix}{name}.N." if listed else f"{prefix}{name}.")
    return found


def documented_settings() -> dict[str, str]:
    """Key and default of each row in the settings' tables."""
    text = section(DOCS / "training.md", "## Settings").split("### phases")[1]
    text = text.split("### quirks")[0] + section(DOCS / "training.md", "### seed")
    return {row[0].strip("`"): row[1] for row in table_rows(text)}


def numberless(key: str) -> str:
    return re.sub(r"\.\d+\.", ".N.", key)


def test_every_setting_is_documented() -> None:
    keys = setting_keys(Recipe)
    quirks = first_codes(section(DOCS / "training.md", "### quirks"))
    listed = {numberless(key) for key in (*documented_settings(), *quirks)}
    assert listed - set(keys) == set()
    assert {key for key, has_more in keys.items() if not has_more} - listed == set()


def test_documented_defaults_of_settings_are_right() -> None:
    switched_on = ["phases.0.region={}", "loss.prior={}", "loss.context_mask={}"]
    plain, full = (recipe_for("sd2", "magictailor", settings).dump() for settings in ([], switched_on))
    checked = 0
    for key, default in documented_settings().items():
        value: Any = plain
        for source in (plain, full):
            value = source
            for part in key.split("."):
                value = value[int(part)] if isinstance(value, list) else (value or {}).get(part)
            if value is not None:
                break
        if default == "" or isinstance(value, dict) or key in ("phases.0.region", "loss.prior", "loss.context_mask"):
            continue
        words = {"none": None, "true": True, "false": False}
        try:
            expected = words[default] if default in words else json.loads(default)
        except ValueError:
            expected = default
        assert value == expected, key
        checked += 1
    assert checked > 40


def test_documented_defaults_of_the_bases_are_right() -> None:
    def numbers(text: str) -> list[float]:
        return [float(number) for number in text.split(", ")]

    rows = table_rows(section(DOCS / "training.md", "## Settings").split("### phases")[0])
    for column, defaults in ((1, PAPER), (2, EMBEDDED)):
        recipe = METHODS["magictailor"](defaults).dump()
        for row in rows:
            values = []
            for key in re.findall(r"`([^`]+)`", row[0]):
                value: Any = recipe
                for part in key.split("."):
                    value = value[int(part) if isinstance(value, list) else part]
                values.append(value)
            assert values == numbers(row[column]), row[0]
    assert len(rows) == 5


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_settings_in_the_text_exist(page: Path) -> None:
    """``--set key=value`` and ``key=value`` fit the recipe of some method."""
    keys = setting_keys(Recipe)
    for span in code_spans(page):
        for setting in re.findall(r"--set '?([^\s']+=[^\s']+)", span):
            assert setting == "key=value" or any(_fits(method, setting) for method in METHODS), setting
        if re.fullmatch(r"(phases|train|data|prompts|loss|optimisation|sampling|quirks)(\.\w+)+(=\S+)?", span):
            assert numberless(f"{span.partition('=')[0]}.").removesuffix(".").removesuffix(".N") in keys, span


@cache
def _fits(method: str, setting: str) -> bool:
    try:
        recipe_for("sd2", method, [setting])
    except magictailor.InputError:
        return False
    return True


def test_every_method_of_the_paper_and_variant_is_documented() -> None:
    listed = first_codes(text_of(DOCS / "methods.md").split("## Where to read the techniques in code")[0])
    assert {*CATALOGUE["methods"], *CATALOGUE["variants"]} <= set(listed)
    for name in re.findall(r"--method ([a-z][\w.-]*)", "".join(map(text_of, PAGES))):
        assert name in METHODS, name


# --- photos, runs, benches


def _draw(path: Path, mask: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L" if mask else "RGB", (48, 48))
    if mask:
        image.paste(255, (8, 8, 40, 40))
    image.save(path)


def test_documented_layouts_are_read(tmp_path: Path) -> None:
    trees = [block.text for block in blocks(DOCS / "photos.md", "text")]
    assert len(trees) == 2
    for number, tree in enumerate(trees):
        parents = [tmp_path / str(number)]
        for line in tree.splitlines():
            depth, name = (len(line) - len(line.lstrip())) // 2, line.strip()
            parents = parents[: depth + 1]
            if name.endswith("/"):
                parents.append(parents[-1] / name)
            else:
                _draw(parents[-1] / name, mask="masks" in (parents[-1] / name).parts)
        pair = read_pair(tmp_path / str(number) / "my_pair")
        assert pair.words == ("<person>", "<hair>")


def test_the_documented_pair_toml_is_read(tmp_path: Path) -> None:
    for name in ("ada/1.jpg", "ada/2.jpg", "salon/1.jpg", "salon/2.jpg"):
        _draw(tmp_path / name, mask=False)
        _draw((tmp_path / name).parent / "masks" / f"{Path(name).stem}.png", mask=True)
    (block,) = blocks(DOCS / "photos.md", "toml")
    (tmp_path / "pair.toml").write_text(block.text, "utf-8")
    assert read_pair(tmp_path).words == ("<person>", "<locks>")


def test_a_run_folder_holds_what_is_documented(prepared: Path) -> None:
    page, run = DOCS / "training.md", prepared / "runs" / "first"
    under = section(page, "## What is in a run's folder")
    folder, fields, metrics = re.split(r"^`run\.json` \(|^`metrics\.jsonl` is written", under, flags=re.MULTILINE)
    listed = {code.split("/")[0] for code in first_codes(folder)}
    assert {path.name for path in run.iterdir()} <= listed
    tree = json.loads((run / "run.json").read_text("utf-8"))
    assert set(first_codes(fields)) == set(tree)
    assert f'`run.json` (`"format": {tree["format"]}`)' in under
    lines = [json.loads(line) for line in (run / METRICS_FILE).read_text("utf-8").splitlines()]
    assert set().union(*lines) - set(first_codes(metrics)) == set()
    assert set(first_codes(metrics)) - set().union(*lines) == {"region", "prior"}  # other methods have these


def test_every_event_is_documented() -> None:
    under = section(DOCS / "training.md", "## From Python")
    rows = [row for row in table_rows(under) if row[0].startswith("`")]
    assert {row[0].strip("`") for row in rows} == {kind.__name__ for kind in get_args(Event)}
    for row in rows:
        kind = next(kind for kind in get_args(Event) if kind.__name__ == row[0].strip("`"))
        names = re.findall(r"`(\w+)`", row[2])
        assert names == list(inspect.signature(kind).parameters)


def test_the_documented_bench_is_read(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared / "practice", tmp_path / "practice")
    (block,) = blocks(DOCS / "bench.md", "toml")
    spec = read_spec(_written(tmp_path / "my_bench.toml", block.text))
    assert len(sources(spec, tmp_path)) == 13
    for method in spec.methods:
        recipe_for("embedded", spec.method_of(method), spec.settings_of(method))
    keys = set(first_codes(section(DOCS / "bench.md", "# Benches").split("## Growing")[0]))
    assert {key.strip("[]") for key in keys} >= set(Spec.model_fields)


def _written(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def test_every_metric_is_documented() -> None:
    under = section(DOCS / "bench.md", "## Metrics").split("### ")[0]
    names = first_codes(under)
    make_scorers(names, {}, "embedded")  # refuses an unknown name
    listed = {name for row in table_rows(under) for name in row[1].split(", ")} | set(names)
    assert {metric.removesuffix(" failed") for metric in higher_is_better()} - listed == set()
    assert set(WEIGHTS) - set(code_spans(DOCS / "bench.md")) == set()


def test_every_benchmark_in_the_text_exists() -> None:
    named = {match for page in PAGES for match in re.findall(r"benchmarks/[\w/]+\.(?:py|toml|json)", text_of(page))}
    assert len(named) > 5
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_documented_messages_are_in_the_program() -> None:
    program = "".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    messages = first_codes(section(DOCS / "troubleshooting.md", "## Frequent messages"))
    assert len(messages) > 15
    assert [message for message in messages if message not in program] == []


# --- reference and architecture


def test_every_public_name_has_a_place_in_the_reference() -> None:
    assert {f"magictailor.{name}" for name in magictailor.__all__} - set(documented_objects(REFERENCE)) == set()


@pytest.mark.parametrize("page", [page for page in PAGES if documented_objects(page)], ids=name_of)
def test_everything_in_the_reference_exists(page: Path) -> None:
    for path in documented_objects(page):
        assert resolve(path) is not None


def test_the_drawing_and_the_import_contract_have_the_same_layers() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = [name.split(".")[1] for layer in contracts[0]["layers"] for name in layer.split(" : ")]
    drawing = (DOCS / "images" / "architecture.svg").read_text("utf-8")
    assert re.findall(r'class="name"[^>]*>(\w+)<', drawing) == layers
    listed = {code.removesuffix("/").removesuffix(".py") for code in first_codes(text_of(DOCS / "architecture.md"))}
    assert set(layers) <= listed
    files = re.findall(r"`((?:\w+/)+\w+\.py)`", text_of(DOCS / "architecture.md") + text_of(DOCS / "methods.md"))
    missing = [f for f in files if not (ROOT / "src" / "magictailor" / f).exists()]
    assert [f for f in missing if f != "methods/soft_lora.py"] == []  # the worked example's
