"""What each verb of the command line does: read the arguments, call the package, print. Heavy imports wait."""

import argparse
import importlib
import importlib.util
import re
import sys
from typing import Any

from audio_vaegan.arguments import CONTROLS, midi, say
from audio_vaegan.errors import UserError, did_you_mean
from audio_vaegan.files import share


def prepare(args: argparse.Namespace, **team: Any) -> int:
    from audio_vaegan.data.prepare import Team
    from audio_vaegan.data.prepare import prepare as make_store
    from audio_vaegan.data.summary import describe
    from audio_vaegan.recipe import load_recipe

    if args.workers is not None and args.workers < 1:
        raise UserError("--workers must be at least 1")
    recipe = load_recipe(args.recipe, args.overrides)
    summary = make_store(
        args.sounds,
        recipe,
        args.out,
        args.overwrite,
        dry_run=args.dry_run,
        workers=args.workers,
        team=Team(**team),
    )
    if summary is None:
        return 0
    if summary.get("up_to_date"):
        print(f"{args.out}: up to date")
    say(*describe(summary, recipe.mel.sample_rate, recipe.data.clip_samples))
    report = args.out.with_name(args.out.name + ".report") if args.dry_run else args.out
    print(f"every file: {report / 'report.html'} (and report.json)")
    return 0


def inspect(args: argparse.Namespace) -> int:
    import json

    from audio_vaegan.data.store import Store
    from audio_vaegan.data.summary import describe, table
    from audio_vaegan.models.bundle import is_model
    from audio_vaegan.sound_model import SoundModel
    from audio_vaegan.sound_model.writing import told

    if not (args.store / "store.json").is_file() and is_model(args.store):
        if args.verify or args.file is not None:
            raise UserError(f"{args.store}: a model; --verify and --file are for stores")
        say(*told(SoundModel.from_pretrained(args.store)))
        return 0
    store = Store(args.store)
    if args.verify:
        changed = store.changed()
        if changed is None:
            raise UserError(f"--store {args.store}: was made before stores knew hashes; prepare it again to have them")
        if changed:
            raise UserError(f"--store {args.store}: not as it was written: {', '.join(changed[:5])}; prepare it again")
        print("every shard and table is as it was written")
        return 0
    report = store.report()
    if args.file is not None:
        found = [f for f in report["files"] if args.file in f["file"]]
        if not found:
            raise UserError(f"--file {args.file}: none of {len(report['files'])} files has that in its name")
        say(*(json.dumps(f, ensure_ascii=False) for f in found))
        return 0
    say(*describe(report["summary"], store.sample_rate, store.clip_samples), table(report["summary"]))
    print(f"content hash: {store.content_hash}")
    print(f"every file: {args.store / 'report.html'} (and report.json)")
    return 0


def render(args: argparse.Namespace) -> int:
    from audio_vaegan.data.soundfont import Rendering
    from audio_vaegan.data.soundfont import render as write_notes

    if args.programs == "all":
        programs = None
    else:
        try:
            programs = () if args.programs == "none" else midi(args.programs)
        except argparse.ArgumentTypeError as e:
            raise UserError(f"--programs {e}") from None
    if not 0 < args.hold <= args.duration <= 60 or not 8000 <= args.sample_rate <= 96000 or not 0 < args.gain <= 10:
        raise UserError(
            "needs 0 < --hold <= --duration <= 60 s, --sample-rate in 8000 ... 96000 Hz, --gain in 0 ... 10"
        )
    if not re.fullmatch(r"[A-Za-z0-9-]{0,40}", args.name):
        raise UserError(f"--name {args.name!r}: letters, digits and hyphens only, at most 40")
    what = Rendering(
        programs=programs,
        drum_kits=args.drum_kits,
        pitches=args.pitches,
        velocities=args.velocities,
        hold=args.hold,
        duration=args.duration,
        sample_rate=args.sample_rate,
        gain=args.gain,
        format=args.format,
        name=args.name,
    )
    if args.loops is not None:
        from audio_vaegan.data.loops import render_loops

        count = render_loops(args.soundfont, args.out, args.loops, what, args.seed, args.overwrite)
        print(f"{count} loops in {args.out}")
        return 0
    count = write_notes(args.soundfont, args.out, what, args.overwrite)
    print(f"{count} notes in {args.out}")
    return 0


def generate(args: argparse.Namespace) -> int:
    from audio_vaegan.generate import recall_file, write_sounds
    from audio_vaegan.keyboard import keyboard

    given: dict[str, Any] = {name: getattr(args, name) for name in CONTROLS} | {"class": args.classes}
    asked = {name: values for name, values in given.items() if values}
    names = ("seed", "truncation", "prior", "closed_loop", "overwrite", "vocoder")
    how = {name: getattr(args, name) for name in names}
    if args.address is not None:
        if asked or args.count is not None or args.keyboard is not None or args.normalize:
            raise UserError(
                "--address says all of a sound; leave --count, --keyboard, --normalize and the controls out"
            )
        recall_file(args.model, args.out, args.address, args.overwrite, args.vocoder)
        return 0
    if args.keyboard is None:
        if args.like is not None:
            raise UserError("--like goes with --keyboard; to change a sound file: audio-vaegan edit")
        count = 16 if args.count is None else args.count
        say(*write_sounds(args.model, args.out, asked, count=count, normalize=args.normalize, **how))
        return 0
    if args.normalize:
        raise UserError(
            "--keyboard and --normalize: its keys are as loud as the model plays them; use --loudness -20 (LUFS)"
        )
    if args.count is not None:
        raise UserError("--count and --keyboard: there is one sound a key; give one of the two")
    notes = keyboard(args.model, args.out, args.keyboard, asked, like=args.like, **how)
    say(*notes, f"{len(set(args.keyboard))} keys in {args.out}, for samplers: {args.out / 'instrument.sfz'}")
    return 0


def edit(args: argparse.Namespace) -> int:
    from audio_vaegan.edits import edit_file

    shift = {name: v for name in CONTROLS if (v := getattr(args, name)) is not None}
    to = {name: v for name in CONTROLS if (v := getattr(args, f"set_{name}")) is not None}
    move = dict(args.move or ())
    if len(move) < len(args.move or ()):
        raise UserError("--move: names a direction twice")
    how = {name: getattr(args, name) for name in ("closed_loop", "input_pitch", "overwrite", "vocoder")}
    say(edit_file(args.model, args.input, args.out, shift=shift, to=to, move=move, **how))
    return 0


def morph(args: argparse.Namespace) -> int:
    from audio_vaegan.edits import morph_files

    how = {name: getattr(args, name) for name in ("steps", "sweep", "overwrite", "vocoder")}
    notes = morph_files(args.model, args.first, args.second, args.out, **how)
    whole = f", and as one: {args.out / 'sweep.wav'}" if args.sweep else ""
    say(*notes, f"{args.steps} sounds in {args.out}{whole}")
    return 0


def transfer(args: argparse.Namespace) -> int:
    from audio_vaegan.edits import transfer_file

    how = {"overwrite": args.overwrite, "vocoder": args.vocoder}
    say(transfer_file(args.model, args.timbre, args.envelope, args.out, **how))
    return 0


def fit_controls(args: argparse.Namespace) -> int:
    from audio_vaegan.data.store import Store
    from audio_vaegan.evaluation.fit import describe
    from audio_vaegan.evaluation.fit import fit_controls as fit
    from audio_vaegan.evaluation.pitch import Judge

    if args.clips < 1:
        raise UserError("--clips must be at least 1")
    store = Store(args.store)
    with Judge() as judge:
        fitted = fit(args.model, store, judge, args.clips, args.vocoder)
    say(describe(fitted))
    return 0


def directions(args: argparse.Namespace) -> int:
    from audio_vaegan.data.store import Store
    from audio_vaegan.evaluation.fit import fit_directions

    if not args.attribute and not args.pca:
        raise UserError("directions: name an --attribute, or ask for --pca N components")
    if not 0 <= args.pca <= 64:
        raise UserError(f"--pca must lie in 0 ... 64, got {args.pca}")
    fitted = fit_directions(args.model, Store(args.store), args.attribute, args.method, args.pca, say)
    print(f"directions of this model: {', '.join(fitted.directions)} (use: audio-vaegan edit ... --move NAME=AMOUNT)")
    return 0


def vocode(args: argparse.Namespace) -> int:
    from audio_vaegan.evaluation.distances import distances
    from audio_vaegan.vocode import vocode_file

    say(vocode_file(args.input, args.out, distances, args.vocoder, args.model, args.mel, args.overwrite))
    return 0


def bench(args: argparse.Namespace) -> int:
    from audio_vaegan.bench import OPTIONS, Wanted, tables
    from audio_vaegan.bench import bench as measure
    from audio_vaegan.files import write_json

    for name in args.only:
        if name not in OPTIONS:
            raise UserError(f"--only: no option {name!r}.{did_you_mean(name, OPTIONS)}")
    least = {"--steps": args.steps, "--batch": args.batch, "--clips": min(args.clips), "--threads": args.threads or 1}
    for word, value in least.items():
        if value < 1:
            raise UserError(f"{word} must be at least 1")
    if not args.seconds > 0:
        raise UserError("--seconds must be above 0")
    if args.out is not None and args.out.exists() and not args.overwrite:
        raise UserError(f"--out {args.out}: exists; choose another name, or give --overwrite")
    groups = [*args.groups, *(["peers"] if args.peers and "peers" not in args.groups else [])]
    wanted = Wanted(
        tuple(groups),
        args.model,
        args.recipe,
        args.store,
        args.batch,
        args.seconds,
        args.threads,
        args.device,
        args.vocoder,
        args.class_label,
        tuple(args.only),
        args.steps,
        tuple(args.clips),
    )
    report = measure(wanted)
    print(tables(report))
    if args.out is not None:
        write_json(args.out, report)
    return 0


def demo(args: argparse.Namespace) -> int:
    if args.auth is not None and not all(args.auth.partition(":")):
        raise UserError("--auth: give USER:PASSWORD")
    folder = share("demo")
    spec = importlib.util.spec_from_file_location(
        "audio_vaegan_demo", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None or not (folder / "app.py").is_file():
        raise UserError(f"demo: {folder} is missing from this installation")
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])
    try:
        app = importlib.import_module("audio_vaegan_demo.app")
    except ImportError as e:
        raise UserError(f"demo needs gradio ({e}); install it with: pip install 'audio-vaegan[demo]'") from None
    try:
        app.launch(args.model, args.port, args.vocoder, args.share, args.auth)
    except OSError as e:
        raise UserError(f"demo: {e}") from None
    return 0


def doctor(args: argparse.Namespace) -> int:
    from audio_vaegan.doctor import run

    return run(fix=args.fix)


def quickstart(args: argparse.Namespace) -> int:
    from audio_vaegan.quickstart import quickstart as run

    return run(args.out)
