"""The command line: verbs to functions.

`pictell --help` imports neither torch nor the option parser, `pictell VERB --help` no torch.
Bad input ends in one line on standard error and exit code 2; an interrupted training in 130.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pictell import __version__
from pictell.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from pictell.captioner import Caption
    from pictell.config import Config

# search options that two verbs replace
NEIGHBOUR_OPTIONS = ("neighbours", "neighbour_weight", "neighbours_by")
REPLACED = ("length_penalty", "block_repeats", "patience", *NEIGHBOUR_OPTIONS)

HELP = """\
usage: pictell VERB ...

Train, compare, explain and ship image-captioning models.

  prepare    read captions and pictures in any known layout, check them, write one data set
  encode     run the frozen encoder over the pictures, once; goes on where it was cut off
  train      train a decoder; writes a run folder
  evaluate   caption a split with a trained run and score the captions
  compare    two or more runs side by side, with statistics; trains what is missing
  ablate     a study: what each variation of an experiment brings, in score, time and memory
  report     one run, or several side by side, as a page to read; trains nothing
  caption    caption a picture or a folder of pictures
  serve      a web page and an HTTP API for one or more runs
  bench      how fast this machine does it, against the textbook's code

A first tour, from generated pictures to a report (minutes on a laptop):

  pictell prepare scenes --out demo/scenes
  pictell compare configs/demo_rnn.yaml configs/demo_attention.yaml --out demo/compare
  pictell caption demo/runs/attention demo/scenes/images/scene_00000.jpg --attention

Each verb has its own --help, which lists every option with its default.

options:
  -h, --help   show this help
  --version    show the version
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"pictell {__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    try:
        if verb not in VERBS:
            raise InputError(f"unknown verb {verb!r}{_nearest(verb)}; see pictell --help")
        # One line for a person; the line of code that warned says nothing to them.
        warnings.showwarning = _show_warning
        return VERBS[verb](rest) or 0
    except InputError as error:
        print(f"pictell {verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\npictell {verb}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `pictell caption ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _nearest(verb: str) -> str:
    import difflib

    near = difflib.get_close_matches(verb, VERBS, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    # Libraries announce their own future changes; users of pictell can do nothing about those.
    if not issubclass(category, (DeprecationWarning, FutureWarning)):
        print(f"warning: {message}", file=sys.stderr)


def _parser(verb: str, usage: str, description: str) -> Any:
    from jsonargparse import ArgumentParser

    class Parser(ArgumentParser):
        def error(self, message: str, ex: Exception | None = None) -> Any:  # type: ignore[override]
            del ex
            raise InputError(_one_line(message))

    return Parser(
        prog=f"pictell {verb}",
        usage=f"pictell {verb} {usage}",
        description=description,
        allow_abbrev=False,
    )


def _one_line(message: str) -> str:
    from pictell.config import nearest_option

    line = " ".join(part.strip() for part in str(message).splitlines() if part.strip())
    wrong = re.match(r'Parser key "([\w.]+)": Expected a (.+?)\. Got value: (.*)', line)
    if wrong:
        name, kind, value = wrong.groups()
        words = {"int": "a whole number", "float": "a number", "bool": "true or false"}
        kind = re.sub(r"<class '(\w+)'>", lambda m: words.get(m[1], m[1]), kind)
        return f"{name} is {value!r}; it must be {re.sub(r'typing.Literal', 'one of ', kind)}"
    for word in line.split():
        name = word.lstrip("-").split("=")[0].rstrip(",")
        if word.startswith("--") and "nrecognized" in line:
            return line + nearest_option(name)
    return line


# -- verbs ----------------------------------------------------------------------------------------


def _prepare(arguments: list[str]) -> None:
    from pictell.data.prepare import Kind, prepare, print_summary

    parser = _parser(
        "prepare",
        "KIND [SOURCE] --out FOLDER [options]",
        "Read captions and pictures, check them, and write OUT/dataset.jsonl and summary.json.",
    )
    parser.add_argument("kind", type=Kind, help="layout of the source, or scenes to generate some")
    parser.add_argument("source", type=str, nargs="?", help="the file or folder to read")
    parser.add_argument("--out", type=str, required=True, help="folder to write the data set into")
    parser.add_function_arguments(prepare, skip={"kind", "source", "out", "strict", "progress"})
    parser.add_argument(
        "--strict", action="store_true", help="make every problem an error and write nothing"
    )
    options = vars(parser.parse_args(arguments))
    kind, source, out = options.pop("kind"), options.pop("source"), options.pop("out")
    print_summary(prepare(kind, Path(source) if source else None, Path(out), **options))


def _config_parser(verb: str, description: str) -> Any:
    from pictell.config import Config

    parser = _parser(verb, "CONFIG [--section.option value ...]", description)
    parser.add_argument("config", type=str, help="a YAML file with the options of an experiment")
    parser.add_class_arguments(Config)
    for action in parser._actions:  # whole sections from further files: not part of the promise
        if action.dest in ("data", "encoder", "decoder", "train", "search"):
            action.help = "==SUPPRESS=="
    return parser


def _parse_config(parser: Any, arguments: list[str]) -> tuple[Config, Any, str]:
    """The file's options under those of the command line, the parsed line, the file's name."""
    from pictell.config import Config, known_options

    file = parser.parse_args(arguments).config  # --help and misspelt options end here
    config = Config.load(file)
    names = known_options()
    parser.set_defaults({name: _get(config, name) for name in names})
    parsed = parser.parse_args(arguments)
    values: dict[str, Any] = {}
    for name in names:
        section, _, key = name.rpartition(".")
        target = values.setdefault(section, {}) if section else values
        target[key] = parsed[name]
    return Config.from_dict(values, "command line"), parsed, file


def _get(config: Config, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _encode(arguments: list[str]) -> None:
    parser = _config_parser("encode", "Encode all pictures of the config's data set, once.")
    config, _, _ = _parse_config(parser, arguments)
    import torch

    from pictell.data.records import read_dataset
    from pictell.data.views import training_views
    from pictell.encoders.encoder import load_encoder
    from pictell.training.task import encode_examples, used_examples

    examples = used_examples(config, read_dataset(Path(config.data.dataset)))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = load_encoder(config.encoder).to(device)
    store = encode_examples(config, encoder, examples, training_views(config.train))
    cells, width = encoder.grid, encoder.feature_size
    print(f"{store.folder}: {len(store.rows):,} pictures of {cells[0]}x{cells[1]}x{width}")


def _train(arguments: list[str]) -> int:
    parser = _config_parser("train", "Train a decoder; writes a run folder.")
    parser.add_argument("--resume", action="store_true", help="go on where the run stands")
    parser.add_argument("--overwrite", action="store_true", help="begin anew")
    config, parsed, file = _parse_config(parser, arguments)
    from pictell.progress import is_first_process
    from pictell.training.checkpoint import run_path
    from pictell.training.loop import InterruptedTraining, train

    folder = run_path(config, Path(file))
    try:
        run = train(config, folder, resume=parsed.resume, overwrite=parsed.overwrite)
    except InterruptedTraining as stopped:
        if is_first_process():
            print(f"pictell train: {stopped}", file=sys.stderr)
        return 130
    if not is_first_process():
        return 0
    info = run.info
    score = ", ".join(f"{name} {value:.4f}" for name, value in info["best_score"].items())
    print(f"{run.path}: best epoch {info['best_epoch']} of {info['epochs']}, validation {score}")
    return 0


def _evaluate(arguments: list[str]) -> None:
    parser = _parser(
        "evaluate",
        "RUN [RUN ...] [--split SPLIT] [--beam K ...] [--attention] [--ensemble --out FOLDER]",
        "Caption a split with a trained run, then score the captions. Writes "
        "RUN/evaluation/SPLIT-beamK/predictions.jsonl and scores.json.",
    )
    parser.add_argument("runs", type=str, nargs="+", help="run folders, evaluated one by one")
    parser.add_argument(
        "--ensemble",
        action="store_true",
        help="let the runs write together: the mean of their probabilities at each word",
    )
    parser.add_argument("--out", type=str, help="folder for the results of an ensemble")
    parser.add_argument("--split", type=str, default="test", help="train, val or test")
    parser.add_argument("--beam", type=int, nargs="+", default=[1, 3, 5], help="beam widths")
    _add_search_options(parser)
    parser.add_argument("--weights", type=str, default="", help="weights of the frozen encoder")
    parser.add_argument("--dataset", type=str, default="", help="another prepared data set")
    parser.add_argument("--overwrite", action="store_true", help="do the work again")
    parser.add_argument(
        "--attention",
        action="store_true",
        help="measure attention too, on the captions of the largest beam width: boxes where the "
        "data have them, entropy and gate by word class, and the deletion check",
    )
    parser.add_argument(
        "--deletion_pictures",
        type=int,
        default=30,
        help="pictures of the deletion check, about twenty encoder passes each; 0 leaves it out",
    )
    options = parser.parse_args(arguments)
    _check_ensemble_options(options)
    from pictell.attention.measure import AttentionSettings
    from pictell.evaluate import evaluate, evaluate_ensemble, print_scores
    from pictell.training.checkpoint import RunFolder

    names = ("split", *REPLACED, "weights", "dataset", "overwrite")
    how = {"beams": options.beam, **{name: options[name] for name in names}}
    if options.ensemble:
        print_scores(evaluate_ensemble(options.runs, Path(options.out), **how))
        return
    settings = AttentionSettings(deletion_pictures=options.deletion_pictures)
    attention = settings if options.attention else None
    for run in [RunFolder.open(run) for run in options.runs]:
        print_scores(evaluate(run, attention=attention, **how))


def _add_search_options(parser: Any) -> None:
    """Those of `REPLACED`."""
    parser.add_argument("--length_penalty", type=float, help="replaces the config's")
    parser.add_argument(
        "--block_repeats",
        type=int,
        help="never write so many words in a row twice in a caption, 0 blocks nothing; the "
        "config's if not given",
    )
    parser.add_argument(
        "--patience",
        type=float,
        help="search until so many times the beam's captions have ended; the config's if not given",
    )
    parser.add_argument(
        "--neighbours",
        type=int,
        help="let the captions of so many similar training pictures choose among the captions "
        "that the beam found; the config's if not given",
    )
    parser.add_argument("--neighbour_weight", type=float, help="replaces the config's")
    parser.add_argument(
        "--neighbours_by",
        choices=["captions", "features"],
        help="what makes training pictures similar; the config's if not given",
    )


def _check_ensemble_options(options: Any) -> None:
    if options.ensemble and not options.out:
        raise InputError("--ensemble needs --out FOLDER: its results belong to no single run")
    if options.out and not options.ensemble:
        raise InputError("--out is for --ensemble; results of a run are kept in its own folder")
    if options.ensemble and options.attention:
        raise InputError("--attention is measured of single runs; leave it or --ensemble out")


def _caption(arguments: list[str]) -> int:
    parser = _parser(
        "caption",
        "RUN PICTURE_OR_FOLDER ... [--ensemble RUN ...] [options]",
        "Caption pictures. Prints a line a picture: its file and the caption.",
    )
    parser.add_argument("run", type=str, help="a run folder")
    parser.add_argument("pictures", type=str, nargs="+", help="picture files, or folders of them")
    parser.add_argument("--out", type=str, help="write a table: FILE.jsonl or FILE.csv")
    parser.add_argument(
        "--sidecar", action="store_true", help="write NAME.txt beside each picture that has none"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="begin --out or --sidecar anew, over what is there"
    )
    parser.add_argument("--beam", type=int, help="beam width; the config's if not given")
    _add_search_options(parser)
    parser.add_argument("--max_length", type=int, help="longest caption in words")
    parser.add_argument(
        "--batch_size", type=int, default=32, help="pictures that are worked on together"
    )
    parser.add_argument(
        "--attention",
        action="store_true",
        help="write NAME.attention.png: the picture with each word's attention",
    )
    parser.add_argument(
        "--attention_folder", type=str, default=".", help="where --attention writes"
    )
    parser.add_argument("--weights", type=str, default="", help="weights of the frozen encoder")
    parser.add_argument(
        "--ensemble",
        type=str,
        nargs="+",
        default=[],
        help="further runs, which write together with RUN: the mean of their probabilities",
    )
    options = parser.parse_args(arguments)
    if options.out and options.sidecar:
        raise InputError("--out and --sidecar exclude each other; run once with each")
    from pictell.caption_files import find_pictures
    from pictell.captioning import Captioning

    captioning = Captioning(
        [options.run, *options.ensemble],
        find_pictures(options.pictures),
        search={k: options[k] for k in ("beam", "max_length", *REPLACED)},
        batch_size=options.batch_size,
        weights=options.weights,
    )
    if options.attention:
        captioning.draw_attention(lambda p, c: _write_attention(p, c, options.attention_folder))
    if options.out:
        failed = captioning.into_table(Path(options.out), overwrite=options.overwrite)
    elif options.sidecar:
        failed = captioning.into_sidecars(overwrite=options.overwrite)
    else:
        failed = captioning.to_output()
    return _tell_failures(failed, len(captioning.paths))


def _tell_failures(failed: dict[Path, str], pictures: int) -> int:
    """List what could not be captioned; returns the exit code."""
    if not failed:
        return 0
    lines = [f"{path}: {reason}" for path, reason in failed.items()]
    if pictures == 1:
        print(f"pictell caption: {lines[0]}", file=sys.stderr)
    else:
        head = f"pictell caption: {len(failed):,} of {pictures:,} pictures were left out:"
        print("\n  ".join([head, *lines]), file=sys.stderr)
    return 2


def _write_attention(path: Path, caption: Caption, folder: str) -> None:
    from pictell.data.images import read_image
    from pictell.files import replacing
    from pictell.report.attention_picture import draw_attention

    assert caption.attention is not None
    drawn = draw_attention(read_image(path), caption.words, caption.attention, caption.seen_box)
    target = Path(folder) / f"{path.stem}.attention.png"
    with replacing(target) as temporary:
        drawn.save(temporary, format="PNG")
    print(f"attention: {target}", file=sys.stderr)


def _compare(arguments: list[str]) -> int:
    parser = _parser(
        "compare",
        "CONFIG_OR_RUN CONFIG_OR_RUN ... --out FOLDER [options]",
        "Train what is missing, evaluate, and compare with statistics. Writes comparison.json and "
        "report.html.",
    )
    parser.add_argument("models", type=str, nargs="+", help="YAML files or run folders")
    parser.add_argument("--out", type=str, required=True, help="folder to write into")
    parser.add_argument("--split", type=str, default="test", help="split to compare on")
    parser.add_argument(
        "--seeds",
        type=int,
        default=1,
        help="train each YAML file with this many seeds, in run folders named _seedN; runs that "
        "differ in the seed alone make one statement, with the spread over seeds",
    )
    parser.add_argument("--beam", type=int, nargs="+", default=[1, 3, 5], help="beam widths")
    parser.add_argument("--length_penalty", type=float, help="replaces the configs'")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap samples")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    _add_page_options(parser)
    options = parser.parse_args(arguments)
    from pictell.compare import compare, print_comparison
    from pictell.training.loop import InterruptedTraining
    from pictell.translations import check_language

    check_language(options.language)
    out = Path(options.out)
    try:
        comparison = compare(
            [Path(model) for model in options.models],
            out,
            split=options.split,
            beams=options.beam,
            length_penalty=options.length_penalty,
            seeds=options.seeds,
            **_description_options(options),
        )
    except InterruptedTraining as stopped:
        print(f"pictell compare: {stopped}", file=sys.stderr)
        return 130
    report = out / "report.html"
    _write_page(comparison, report, options)
    print_comparison(comparison, report)
    return 0


def _ablate(arguments: list[str]) -> int:
    parser = _parser(
        "ablate",
        "STUDY [--size screening|full] [--jobs N] [--out FOLDER] [options]",
        "Train a base experiment and its variations, score their captions, and tell what each "
        "brings: difference of score with its interval, time, memory. Goes on where it was "
        "stopped. Writes OUT/SIZE/study.json, table.md, forest.svg and forest.png. A variation "
        "that fails is recorded, the others go on, and the exit code is 1.",
    )
    parser.add_argument("study", type=str, help="a YAML file with a base and its variations")
    parser.add_argument(
        "--size",
        type=str,
        default="screening",
        help="screening (small, scored on validation) or full (scored on test)",
    )
    parser.add_argument("--out", type=str, help="folder to write into; runs/NAME if not given")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once")
    parser.add_argument(
        "--results",
        type=str,
        help="folder of results, a small file for each training, which several machines may share "
        "or hand on: what is there is not trained again; OUT/SIZE/results if not given",
    )
    parser.add_argument(
        "--variations",
        type=str,
        nargs="+",
        default=[],
        help="train and score these and the base alone; of others what was done before is told",
    )
    parser.add_argument(
        "--trained_only", action="store_true", help="train nothing; tell of what is trained"
    )
    parser.add_argument("--resamples", type=int, default=10_000, help="bootstrap samples")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    options = parser.parse_args(arguments)
    from pictell.ablate.run import ablate, failed
    from pictell.ablate.table import print_study
    from pictell.training.loop import InterruptedTraining

    file = Path(options.study)
    out = Path(options.out) if options.out else Path("runs") / file.stem
    try:
        record = ablate(
            file,
            out,
            size=options.size,
            jobs=options.jobs,
            results=Path(options.results) if options.results else None,
            names=options.variations,
            trained_only=options.trained_only,
            resamples=options.resamples,
            seed=options.seed,
            command=shlex.join(["pictell", "ablate", *arguments]),
        )
    except InterruptedTraining as stopped:
        print(f"pictell ablate: {stopped}", file=sys.stderr)
        return 130
    print_study(record)
    print(f"\n{out / options.size}: study.json, table.md, forest.svg, forest.png")
    return 1 if failed(record) else 0


def _report(arguments: list[str]) -> None:
    parser = _parser(
        "report",
        "RUN ... [--out report.html] [options]",
        "Write a page about one trained run, or several side by side: scores with intervals, "
        "curves, cost, where each is strong, pictures to look into. One file that needs no "
        "network. Nothing is trained; what was not evaluated yet is evaluated.",
    )
    parser.add_argument("runs", type=str, nargs="+", help="run folders")
    parser.add_argument("--out", type=str, default="report.html", help="the file to write")
    parser.add_argument("--split", type=str, default="test", help="split to report on")
    parser.add_argument("--beam", type=int, nargs="+", default=[1, 3, 5], help="beam widths")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap samples")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    _add_page_options(parser)
    options = parser.parse_args(arguments)
    from pictell.compare import describe_runs
    from pictell.translations import check_language

    out = Path(options.out)
    check_language(options.language)
    if out.is_dir() or out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out is {options.out!r}; name an HTML file, such as report.html")
    description = describe_runs(
        [Path(run) for run in options.runs],
        split=options.split,
        beams=options.beam,
        **_description_options(options),
    )
    _write_page(description, out, options)
    print(out)


def _add_page_options(parser: Any) -> None:
    parser.add_argument("--pictures", type=int, default=6, help="pictures of each group")
    parser.add_argument(
        "--occlusion",
        type=int,
        default=12,
        help="pictures on which models without attention get occlusion maps (49 encoder passes "
        "each)",
    )
    parser.add_argument(
        "--deletion_pictures",
        type=int,
        default=30,
        help="pictures of the deletion check of attention, about twenty encoder passes each; 0 "
        "leaves it out",
    )
    parser.add_argument("--language", type=str, default="en", help="language of the page: en, zh")
    parser.add_argument("--weights", type=str, default="", help="weights of the frozen encoders")


def _description_options(options: Any) -> dict[str, Any]:
    from pictell.attention.measure import AttentionSettings

    if options.occlusion < 0:
        raise InputError(f"--occlusion is {options.occlusion}; give 0 or more pictures")
    return {
        "resamples": options.resamples,
        "seed": options.seed,
        "pictures": options.pictures,
        "weights": options.weights,
        "attention": AttentionSettings(deletion_pictures=options.deletion_pictures),
    }


def _write_page(comparison: dict[str, Any], out: Path, options: Any) -> None:
    from pictell.report.looks import looks_of
    from pictell.report.page import write_report

    looks = looks_of(comparison, occlusion=options.occlusion, weights=options.weights)
    write_report(comparison, out, looks=looks, language=options.language)


def _serve(arguments: list[str]) -> None:
    from pictell.serve.limits import Limits

    parser = _parser(
        "serve",
        "RUN [RUN ...] [--port PORT] [options]",
        "A web page that captions pictures, and an HTTP API for programs. Nothing is kept.",
    )
    parser.add_argument("runs", type=str, nargs="+", help="run folders; several are shown together")
    parser.add_argument("--host", type=str, default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8000, help="0 takes any port that is free")
    parser.add_argument(
        "--batch_size", type=int, default=32, help="most pictures that are worked on together"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=0,
        help="batches in work at once; 0 for one on a GPU, else one for each core",
    )
    parser.add_argument("--weights", type=str, default="", help="weights of the frozen encoders")
    limits = parser.add_class_arguments(Limits)
    options = parser.parse_args(arguments)
    try:
        from pictell.serve.server import serve
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "serve", "the page and the API") from None

    serve(
        options.runs,
        host=options.host,
        port=options.port,
        limits=Limits(**{name: options[name] for name in limits}),
        batch_size=options.batch_size,
        threads=options.threads,
        weights=options.weights,
    )


def _bench(arguments: list[str]) -> None:
    parser = _parser(
        "bench",
        "[encode|train|decode|start|growth|gpu|all] [options]",
        "Measure speed and memory against the textbook's code in the same run. Results that are "
        "not equal are an error.",
    )
    parser.add_argument(
        "what", type=str, nargs="?", default="all", help="what to measure; all takes half an hour"
    )
    parser.add_argument(
        "--quick", action="store_true", help="check equality at tiny sizes, time nothing"
    )
    parser.add_argument(
        "--runs", type=str, nargs="*", default=[], help="trained runs, for what needs a model"
    )
    parser.add_argument("--picture", type=str, help="a picture file, for the same")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each way")
    parser.add_argument("--memory", type=bool, default=True, help="measure peak memory too")
    parser.add_argument(
        "--only",
        type=str,
        default="",
        help="of encode, train, decode and gpu what has these words in its name, such as "
        "'attention, training step'",
    )
    parser.add_argument("--out", type=str, help="folder for BENCH.md, bench.json and growth.svg")
    options = parser.parse_args(arguments)
    from pictell.bench.run import run_bench

    if options.repeats < 1:
        raise InputError(f"--repeats is {options.repeats}; it must be at least 1")
    run_bench(
        options.what,
        quick=options.quick,
        runs=[Path(run) for run in options.runs],
        picture=Path(options.picture) if options.picture else None,
        repeats=options.repeats,
        memory=options.memory,
        only=options.only,
        out=Path(options.out) if options.out else None,
    )


VERBS: dict[str, Callable[[list[str]], int | None]] = {
    "prepare": _prepare,
    "encode": _encode,
    "train": _train,
    "evaluate": _evaluate,
    "compare": _compare,
    "ablate": _ablate,
    "report": _report,
    "caption": _caption,
    "serve": _serve,
    "bench": _bench,
}
