"""Stage 4: some images of each class, by a hash of their ids; those that cannot be used are passed over and named."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from configs.errors import DataError
from configs.wikiqa import WikiqaConfig
from data_prep.class_matching import indices_by_name
from data_prep.images import ImageError, check_image, true_extension
from data_prep.progress import progress_bar
from data_prep.registry import open_source
from data_prep.sample import Drop, Sample
from data_prep.validate import read_image
from data_prep.wikiqa.classes import WikiClass
from data_prep.wikiqa.stage_file import StageFile, hash_of

IMAGES = "images"
BROKEN, FEW = "images that do not decode", "classes with fewer images"
UNUSABLE = "records that cannot be used"
LONGEST_NAME = 200  # bytes of a file name


@dataclass(frozen=True, slots=True)
class ChosenImage:
    """An image of a class: the sample it is from, its name in the folder of images, and its bytes' hash."""

    sample: Sample
    name: str
    sha256: str

    def read(self) -> bytes:
        """The bytes of the image. Raises `DataError` if they can no longer be read."""
        data = read_image(self.sample.image)
        assert data is not None
        return data


def choose_images(
    config: WikiqaConfig, classes: Sequence[WikiClass], names: Sequence[str]
) -> tuple[StageFile, dict[str, list[ChosenImage]]]:
    """Images of `classes`, by class id; `names` are those of the whole class list.

    Raises `DataError` if the source has no class or no image of any of these classes.
    """
    samples, unusable = _samples_by_class(config, names)
    chosen: dict[str, list[_Decoded]] = {}
    broken: list[str] = []
    for one in progress_bar(classes, name="images", unit="classes"):
        chosen[one.id] = []
        for sample in sorted(samples.get(one.index, []), key=lambda sample: _rank(config.seed, sample.id)):
            if len(chosen[one.id]) == config.images_per_class:
                break
            try:
                chosen[one.id].append(_decoded(sample))
            except ImageError as error:
                broken.append(f"{sample.id}: {error}")
    if classes and not any(chosen.values()):
        raise DataError(
            f"source {config.source} has no image of any of the {len(classes):,} classes with a question; do its "
            "classes have the names of the class list?"
        )
    file_names = _file_names([image for found in chosen.values() for image in found])
    images = {
        key: [ChosenImage(image.sample, file_names[image.sample.id], image.sha256) for image in found]
        for key, found in chosen.items()
    }
    passed_over = {BROKEN: broken} | ({UNUSABLE: unusable} if unusable else {})
    return _stage_file(config, classes, images, passed_over), images


def _samples_by_class(config: WikiqaConfig, names: Sequence[str]) -> tuple[dict[int, list[Sample]], list[str]]:
    """Samples with an image, by the index of their class in `names`, and the records that the reader cannot use."""
    source = open_source(config.data, config.source)
    if not source.class_names:
        raise DataError(f"source {config.source} has no classes; take the images from a source that has")
    index = indices_by_name(source.class_names, names)
    found: dict[int, list[Sample]] = {}
    unusable = []
    for record in source.records:
        if isinstance(record, Drop):
            unusable.append(f"{record.id}: {record.reason}")
        elif record.label is not None and record.image is not None:
            found.setdefault(index[record.label], []).append(record)
    return found, unusable


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A sample whose image was decoded, with the image's hash and true extension."""

    sample: Sample
    sha256: str
    extension: str


def _decoded(sample: Sample) -> _Decoded:
    """Raises `ImageError` for an image that is missing or does not decode."""
    data = read_image(sample.image)
    assert data is not None, "samples without an image are left out before"
    check_image(data)
    return _Decoded(sample, sha256(data).hexdigest(), true_extension(data))


def _file_names(images: Sequence[_Decoded]) -> dict[str, str]:
    """Sample id to file name: that of its file where no two are alike, else made of the ids, else of their hashes."""
    own, flat, hashed = {}, {}, {}
    for image in images:
        key, origin = image.sample.id, image.sample.image
        flat[key] = f"{key.replace('/', '_').lstrip('.')}.{image.extension}"
        own[key] = origin.name if isinstance(origin, Path) else flat[key]
        hashed[key] = f"{sha256(key.encode(errors='surrogatepass')).hexdigest()[:16]}.{image.extension}"
    return next((names for names in (own, flat) if _differ(names.values())), hashed)


def _differ(names: Iterable[str]) -> bool:
    """Whether files of these names can be in one folder, also where case is ignored."""
    folded = [name.casefold() for name in names]
    return len(set(folded)) == len(folded) and all(
        len(name.encode(errors="replace")) <= LONGEST_NAME for name in folded
    )


def _stage_file(
    config: WikiqaConfig,
    classes: Sequence[WikiClass],
    images: Mapping[str, list[ChosenImage]],
    passed_over: Mapping[str, list[str]],
) -> StageFile:
    """The file of the stage; `passed_over` are images that do not decode and records that the reader cannot use."""
    few = {one.id: f"{one.name} ({one.id}): {len(images[one.id])}" for one in classes}
    few = {key: label for key, label in few.items() if len(images[key]) < config.images_per_class}
    lines = [
        {"id": one.id, "name": one.name, "sample": image.sample.id, "image": image.name, "sha256": image.sha256}
        for one in classes
        for image in images[one.id]
    ]
    counts = {
        "classes": len(classes),
        "images": len(lines),
        **{what: len(names) for what, names in passed_over.items()},
    }
    counts[FEW] = len(few)
    named = {FEW: list(few.values()), **passed_over}
    return StageFile(IMAGES, hash_of([config.seed, config.images_per_class, config.source]), counts, named, lines)


def _rank(seed: int, sample_id: str) -> bytes:
    return sha256(f"{seed}:image {sample_id}".encode(errors="surrogatepass")).digest()
