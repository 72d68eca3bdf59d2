"""Other uses of a model, each on held-out sounds beside the obvious baseline: the verb `evaluate-uses`."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from audio_vaegan.arguments import USES
from audio_vaegan.data.store import Store
from audio_vaegan.errors import UserError
from audio_vaegan.evaluation.held import check_fits
from audio_vaegan.evaluation.trained_judge import judge_of
from audio_vaegan.evaluation.uses.few_labels import few_labels
from audio_vaegan.evaluation.uses.odd import told_apart
from audio_vaegan.evaluation.uses.packed import packed
from audio_vaegan.evaluation.uses.restored import restored
from audio_vaegan.evaluation.uses.rows import Row, table
from audio_vaegan.evaluation.uses.transferred import conditional, transferred
from audio_vaegan.files import new_folder, write_json
from audio_vaegan.sound_model import SoundModel


def evaluate_uses(
    path: Path,
    store: Store,
    out: Path,
    *,
    uses: tuple[str, ...] = USES,
    clips: int = 128,
    label: str = "instrument_family_str",
    odd: Mapping[str, Path] | None = None,
    judge: Path | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> list[Row]:
    """Measure the uses of a model, and write the folder `out`: uses.json, and uses.md with the table."""
    model = SoundModel.from_pretrained(path)
    check_fits(model, store)
    if not model.encodes:
        raise UserError(f"{path}: a GAN, which has no encoder: there is nothing to measure")
    if not len(store.split("test_instrument")):
        raise UserError(f"--store {store.path}: it holds out no sources; prepare it with --data.test_instruments 0.1")
    if "anomaly" in uses and model.fitted.usual is None:
        raise UserError(
            f"{path}: knows no scores of usual sounds; fit them: audio-vaegan fit-controls {path} --store ..."
        )
    rows: list[Row] = []
    for use in uses:
        say(f"measuring {use} ...")
        if use == "restore":
            rows += restored(model, store, clips)
        elif use == "anomaly":
            rows += told_apart(model, store, clips, odd or {})
        elif use == "few-labels":
            rows += few_labels(model, store, clips, label)
        elif use == "compression":
            rows += packed(model, store, clips)
        else:
            ears = judge_of(store, judge, say)
            rows += transferred(model, store, ears, clips) + conditional(model, store, ears, clips)
    about = {"model_hash": model.hash, "vocoder": model.vocoder_title, "store": store.content_hash, "clips": clips}
    with new_folder(out, "uses", overwrite) as folder:
        write_json(folder / "uses.json", {**about, "rows": [asdict(r) for r in rows]})
        (folder / "uses.md").write_text(table(rows) + "\n")
    return rows
