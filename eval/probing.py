"""Linear probing: how much of the class stands in the language model's last layer (the paper's Tables 3 and 10).

    python -m eval.probing --config FILE.yaml --train SOURCE [--epochs 500]     extract, train, report
    python -m eval.probing --config FILE.yaml --train SOURCE --encoder   the image encoder instead (eval/clip/linear.py)
    python -m eval.probing --benchmark [--json]                          our training against the authors' loop

One pass over the images stores the last layer's states at all places of Table 10 (0, 100, ... 600, the last three, and
the mean over all tokens; the last is Table 3's "Last Tok", the mean its "Avg Tok"). One linear layer a place is trained
on them, all at once, as the paper does (batch 512, Adam 1e-3, 500 epochs). The authors report the best epoch *on the
test items*; here the epoch is chosen on a tenth of the training items, and --best-on-test adds the authors' number.

Files in the evaluation's folder: probe-SOURCE.safetensors (features, fp16), probe.json (the results). Shapes: `N`
items, `F` places, `H` hidden size, `C` classes.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from configs.command_line import command_parser, exit_on_user_error
from configs.errors import DataError, RunError, UserError
from configs.load import load_config
from configs.schema import EvalConfig
from data_prep.atomic import TEMPORARY_SUFFIX
from eval.class_frequency import frequencies_of, frequency_results, with_frequency
from eval.clip.images import ImageEncoder
from eval.clip.linear import EPOCHS as HEAD_EPOCHS
from eval.clip.linear import FEATURES, encoded, is_encoder, open_encoder
from eval.identity import describe_evaluation
from eval.items import chosen_items, open_source
from eval.open_world import OpenWorld
from eval.places import place_of
from eval.predictor import Predictor, Prompt
from eval.probe_heads import EPOCHS, Options, ProbeSet, benchmark, benchmark_text, train_heads
from eval.reporting.stats import ClassResult, Rate
from eval.respondents import respondent_folders
from eval.systems import described
from train.model import DTYPES, LoadedModel, load_model

BY_CLASS = ("-1", "mean", *FEATURES)  # Table 3's two; Figure 7 sets them against the classes' frequency
PLACES = ("0", "100", "200", "300", "400", "500", "600", "-3", "-2", "-1", "mean")


@torch.inference_mode()
def place_states(predictor: Predictor, prompts: Sequence[Prompt]) -> torch.Tensor:
    """(N, F, H) last-layer states at `PLACES`; a place beyond the prompt's end is NaN.

    The pass ends after the last layer's norm: what the head would see, without the head.
    """
    ids, mask = predictor.padded(prompts)
    decoder = predictor.family.language_model(predictor.model)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    embeddings = predictor.embeddings(ids, prompts)
    states = decoder(inputs_embeds=embeddings, attention_mask=mask, position_ids=positions).last_hidden_state.float()
    rows = []
    for own, real in zip(states, mask.bool(), strict=True):
        tokens = own[real]  # (T, H) without padding
        missing = tokens.new_full(tokens.shape[1:], float("nan"))
        chosen = [tokens.mean(0) if place == "mean" else _at(tokens, int(place), missing) for place in PLACES]
        rows.append(torch.stack(chosen))
    return torch.stack(rows)


def _at(tokens: torch.Tensor, place: int, missing: torch.Tensor) -> torch.Tensor:
    return tokens[place] if -len(tokens) <= place < len(tokens) else missing


@dataclass(frozen=True)
class Features:
    """States of all items of one source, with their classes."""

    states: torch.Tensor  # (N, F, H) fp16
    labels: torch.Tensor  # (N,)


def extract(config: EvalConfig, loaded: LoadedModel, file: Path) -> Features:
    """Features of `config.source`, from `file` if they are there. Raises `DataError` for items without a class."""
    if file.is_file():
        stored = load_file(file)
        return Features(stored["states"], stored["labels"])
    shards = open_source(config)
    predictor, protocol = Predictor(loaded, config.protocol), OpenWorld(config.protocol)
    states, labels = [], []
    items = chosen_items(shards.index["id_hash"].tolist(), config.limit)
    for start in range(0, len(items), config.batch_size):
        samples = [shards.sample(item) for item in items[start : start + config.batch_size]]
        if nameless := [sample.id for sample in samples if sample.label is None]:
            raise DataError(f"{nameless[0]} of {config.source} has no label; probing needs one for every item")
        images = [sample.image if isinstance(sample.image, bytes) else None for sample in samples]
        turns = [protocol.question(sample).turns for sample in samples]
        prompts = [predictor.prompt(asked, image) for asked, image in zip(turns, images, strict=True)]
        states.append(place_states(predictor, prompts).half().cpu())
        labels += [int(sample.label or 0) for sample in samples]
    return _stored(Features(torch.cat(states), torch.tensor(labels)), file)


def encoder_features(config: EvalConfig, encoder: ImageEncoder, file: Path) -> Features:
    """As `extract`, of an image encoder: one place."""
    if file.is_file():
        stored = load_file(file)
        return Features(stored["states"], stored["labels"])
    return _stored(Features(*encoded(config, encoder)), file)


def _stored(features: Features, file: Path) -> Features:
    """Write features, whole or not at all: half a file would be in the way of the next run."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    save_file({"states": features.states.contiguous(), "labels": features.labels}, temporary)
    temporary.replace(file)
    return features


def probe(
    train: Features,
    test: Features,
    epochs: int,
    *,
    places: Sequence[str] = PLACES,
    best_on_test: bool = False,
    precision: str = "fp32",
    seed: int = 0,
) -> dict[str, Any]:
    """Train a head a place on `train`, and say how right each is on `test`.

    Places that a prompt lacks are left out and counted: prompts of BLIP-2 are short, those of LLaVA-NeXT vary.
    `accuracy` is that of the epoch chosen on held-out training items; `best_on_test`, if asked for, is the authors'
    maximum over epochs, which has looked at the answers.
    """
    lacking = [int(sum(part.states[:, n].isnan().any(-1).sum() for part in (train, test))) for n in range(len(places))]
    there = [number for number, prompts in enumerate(lacking) if not prompts]
    drawn = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train.labels), generator=drawn)
    held = order[: max(1, len(order) // 10)]
    kept = order[max(1, len(order) // 10) :]
    if not len(kept):
        raise RunError(f"probing needs at least 2 training items; there are {len(train.labels)}")
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def part(features: Features, rows: torch.Tensor) -> ProbeSet:
        return ProbeSet(features.states[rows][:, there].float().to(device), features.labels[rows].to(device))

    everything = part(test, torch.arange(len(test.labels)))
    options = Options(DTYPES[precision], everything if best_on_test else None)
    trained = train_heads(part(train, kept), part(train, held), classes, epochs, seed, options)
    correct = trained.correct(everything).cpu()
    results: dict[str, dict[str, Any]] = {}
    for column, number in enumerate(there):
        results[places[number]] = {
            "accuracy": Rate(int(correct[column].sum()), len(test.labels)).to_json(),
            "epoch": int(trained.epochs[column]) + 1,
        }
        if places[number] in BY_CLASS:
            pairs = zip(test.labels.tolist(), correct[column].tolist(), strict=True)
            results[places[number]]["right_by_label"] = _by_label(pairs)
        if trained.best_on_test is not None:
            results[places[number]]["best_on_test"] = float(trained.best_on_test[column]) / len(test.labels)
    left_out = {places[number]: prompts for number, prompts in enumerate(lacking) if prompts}
    sizes = {"class_count": classes, "train": len(kept), "val": len(held), "epochs": epochs}
    return {"places": results, "left_out": left_out, **sizes}


def _by_label(pairs: Iterable[tuple[int, bool]]) -> dict[int, tuple[int, int]]:
    """Label to (right, of how many)."""
    counts: dict[int, tuple[int, int]] = {}
    for label, right in pairs:
        before = counts.get(label, (0, 0))
        counts[label] = before[0] + int(right), before[1] + 1
    return dict(sorted(counts.items()))


def run(config: EvalConfig, arguments: argparse.Namespace) -> dict[str, Any]:
    """Extract features of both sources, train, write probe.json in the evaluation's folder, and return its content."""
    label, folder = respondent_folders(config)[0]
    place = place_of(config).folder(label, folder).root
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sources = {source: replace(config, source=source) for source in (arguments.train, config.source)}
    alone = is_encoder(config, folder) or getattr(arguments, "encoder", False)
    if alone:
        encoder = open_encoder(config, folder)
        places: tuple[str, ...] = (encoder.feature,)
        place = place / "encoder"  # beside what stands in the language model
        files = {source: place / _feature_file(part, encoder.identity) for source, part in sources.items()}
        features = {source: encoder_features(sources[source], encoder, files[source]) for source in sources}
    else:
        places = PLACES
        loaded = load_model(str(folder), None, config.dtype, config.attention, device)
        files = {source: place / _feature_file(part, loaded.identity) for source, part in sources.items()}
        features = {source: extract(sources[source], loaded, files[source]) for source in sources}
    result = probe(
        features[arguments.train],
        features[config.source],
        arguments.epochs or (HEAD_EPOCHS if alone else EPOCHS),
        places=places,
        best_on_test=arguments.best_on_test,
        precision=arguments.precision,
    )
    result |= {
        "name": config.name,
        "model": config.model,
        "label": label,
        "source": config.source,
        "system": described(config.model),
        "paper": None,
        "train_source": arguments.train,
        "folder": str(place),
    }
    result |= _against_frequency(config, result["places"])
    result["paper"] = {"row": config.paper_row} if config.paper_row else None
    place.mkdir(parents=True, exist_ok=True)
    (place / "probe.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def _feature_file(config: EvalConfig, identity: str) -> str:
    """A name for the features of `config.source`: another model, data set, question or precision has another."""
    fingerprint = open_source(config).fingerprint
    asked = describe_evaluation(config, "", identity, fingerprint, (0, 0)).asked
    digest = hashlib.sha256(json.dumps(dict(asked), sort_keys=True).encode()).hexdigest()
    part = "" if config.limit is None else f"-{config.limit}"
    return f"probe-{config.source}-{digest[:12]}{part}.safetensors"


def _against_frequency(config: EvalConfig, places: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Each class's accuracy at the mean over the tokens, and how it goes with the class's frequency (Figure 7)."""
    counts = places.get("mean", {}).get("right_by_label")
    names = open_source(config).manifest.class_names
    frequencies = frequencies_of(config)
    if counts is None or frequencies is None or not names:
        return {"classes": [], "frequency": None}
    results = [ClassResult(label, names[label], right, n - right, 0) for label, (right, n) in counts.items()]
    results = with_frequency(results, frequencies)
    return {"classes": [asdict(result) for result in results], "frequency": frequency_results(results)}


def as_text(result: dict[str, Any]) -> str:
    """A line a place."""
    lines = [f"{result['name']}: {result['train']:,} items to train on, {result['val']:,} to choose the epoch"]
    for name, row in result["places"].items():
        rate = row["accuracy"]
        lines.append(
            f"{name:>5}  {rate['value']:.1%} ({rate['low']:.1%} to {rate['high']:.1%}, n = {rate['n']:,}), "
            f"epoch {row['epoch']}"
            + (f"; best epoch on the test items {row['best_on_test']:.1%}" if "best_on_test" in row else "")
        )
    lines += [f"{name:>5}  left out: {prompts:,} prompts end before it" for name, prompts in result["left_out"].items()]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Probe a model, or measure the training of heads. Exits with code 2 on a mistake."""
    parser = command_parser(__doc__)
    parser.add_argument("--config", type=Path, metavar="FILE", help="evaluation whose model and source are probed")
    parser.add_argument("--train", metavar="SOURCE", help="source of data.sources that heads are trained on")
    parser.add_argument("--epochs", type=int, help="epochs of training (default, as the paper: 500; encoders 300)")
    parser.add_argument("--encoder", action="store_true", help="probe the image encoder; a CLIP has nothing else")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--precision", choices=("fp32", "bf16"), default="fp32", help="of the products; bf16 is 3 times as fast"
    )
    parser.add_argument("--best-on-test", action="store_true", help="also the authors' number: the best test epoch")
    parser.add_argument("--benchmark", action="store_true", help="time the training of heads on random features")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(argv)
    if arguments.benchmark:
        measured = benchmark()
        print(json.dumps(measured) if arguments.json else benchmark_text(measured))
        return
    if arguments.config is None or arguments.train is None:
        parser.error("give --config and --train, or --benchmark")
    try:
        config, _ = load_config(EvalConfig, arguments.config, arguments.overrides)
        result = run(config, arguments)
    except UserError as error:
        exit_on_user_error(error)
    print(json.dumps(result) if arguments.json else as_text(result))


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main()
