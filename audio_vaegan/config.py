"""The recipe: everything that decides what is trained, as frozen, checked values. Imports no torch.

A recipe is a YAML file whose keys mirror the classes below; `recipe.py` reads it.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from audio_vaegan.errors import did_you_mean

Positive = Annotated[int, Field(gt=0, lt=2**31)]
Size = Annotated[int, Field(gt=0, le=8192)]  # of a layer, a batch, a filterbank: larger ones are slips of the pen
Window = Annotated[int, Field(gt=0, le=2**16)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Held = Annotated[float, Field(ge=0, le=0.9)]
Decibel = Annotated[float, Field(ge=-200, le=0)]
Channel = Literal["mean", "left", "right", "loudest"]  # how several channels become one
ControlName = Literal["pitch", "loudness", "brightness", "noisiness", "attack", "decay", "onset_rate"]


class Section(BaseModel):
    """A frozen part of the recipe that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MelConfig(Section):
    """Everything that decides a log-mel spectrogram. Two spectrograms are comparable only if all of it is equal."""

    sample_rate: Annotated[int, Field(ge=4000, le=768_000)] = 16000
    n_fft: Window = 1024
    win_length: Window = 1024
    hop_length: Window = 256
    n_mels: Size = 128
    f_min: Weight = 20.0
    f_max: Weight = 8000.0
    mel_scale: Literal["slaney", "htk"] = "slaney"
    norm: Literal["slaney"] | None = "slaney"
    power: Literal[1, 2] = 1
    magnitude_eps: Weight = 0.0  # added to re^2 + im^2 under the root (HiFi-GAN: 1e-9)
    log: Literal["ln", "log10"] = "ln"
    floor: Annotated[float, Field(gt=0)] = 1e-5  # smallest mel magnitude before the logarithm
    padding: Literal["same", "center"] = "same"  # same: (n_fft - hop) / 2 a side; center: n_fft / 2 a side
    pad_mode: Literal["reflect", "constant"] = "constant"

    @model_validator(mode="after")
    def _consistent(self) -> "MelConfig":
        if self.win_length > self.n_fft or self.hop_length > self.win_length:
            raise ValueError("needs hop_length <= win_length <= n_fft")
        if not self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError(f"needs f_min < f_max <= sample_rate / 2 = {self.sample_rate / 2:g} Hz")
        if (self.n_fft - self.hop_length) % 2:
            raise ValueError("needs n_fft - hop_length even")
        return self

    def frames(self, samples: int) -> int:
        """Number of frames of a clip: samples / hop for `same` padding, one more for `center`."""
        return samples // self.hop_length + (1 if self.padding == "center" else 0)

    def differences(self, other: "MelConfig") -> list[str]:
        """`["hop_length: 256 != 512", ...]` for each field that differs."""
        return [
            f"{name}: {getattr(self, name)} != {getattr(other, name)}"
            for name in type(self).model_fields
            if getattr(self, name) != getattr(other, name)
        ]


_HIFIGAN: dict[str, Any] = {"magnitude_eps": 1e-9, "pad_mode": "reflect", "f_min": 0.0}
MEL_PRESETS: dict[str, MelConfig] = {
    "notes-16k-128": MelConfig(),
    "hifigan-22k-80": MelConfig(sample_rate=22050, n_mels=80, f_max=8000.0, **_HIFIGAN),
    "bigvgan-24k-100": MelConfig(sample_rate=24000, n_mels=100, f_max=12000.0, **_HIFIGAN),
    "bigvgan-44k-128": MelConfig(
        sample_rate=44100, n_fft=2048, win_length=2048, hop_length=512, n_mels=128, f_max=22050.0, **_HIFIGAN
    ),
    "vocos-24k-100": MelConfig(
        sample_rate=24000,
        n_mels=100,
        f_min=0.0,
        f_max=12000.0,
        mel_scale="htk",
        norm=None,
        floor=1e-7,
        padding="center",
        pad_mode="reflect",
    ),
}


def _mel_preset(value: Any) -> Any:
    """Let `mel:` be a preset's name, or a mapping that may start from one (`preset: name`)."""
    if isinstance(value, str):
        value = {"preset": value}
    if isinstance(value, dict) and "preset" in value:
        name = value["preset"]
        if name not in MEL_PRESETS:
            raise ValueError(f"no mel preset {name!r}.{did_you_mean(str(name), MEL_PRESETS)}")
        return MEL_PRESETS[name].model_dump() | {k: v for k, v in value.items() if k != "preset"}
    return value


class DataConfig(Section):
    """How files become clips, and how clips are split."""

    clip_samples: Annotated[int, Field(gt=0, le=2**26)] = 16384
    channel: Channel = "mean"
    trim_dbfs: Decibel | None = None  # what lies below this at the start of a file and at the end of a clip is cut off
    windows: Literal["regular", "onsets"] = "regular"  # how a longer sound is cut: side by side, or where events begin
    overlap: Annotated[float, Field(ge=0, le=0.9)] = 0.0  # of regular windows, in clips
    loudness: Annotated[float, Field(ge=-60, le=0)] | None = None  # LUFS that clips are brought to; the label stays
    silence_dbfs: Decibel = -70.0  # a clip whose peak lies below this, or below trim_dbfs, is dropped as silent
    group_by: str | None = None  # a label (speaker, pack ...): files that share it stay on one side of the split
    test_instruments: Held = 0.15  # share of instruments (files, where there are none) held out whole
    test_notes: Held = 0.1  # share of the remaining clips held out
    hold_out: dict[str, tuple[str | int, ...]] = {}  # label -> values: whose groups are held out whole, besides these
    keep: dict[str, tuple[str | int, ...]] = {}  # label -> values; files labelled otherwise are left out
    keep_pitch: tuple[float, float] = (0.0, 127.0)  # MIDI: files whose pitch label lies outside are left out

    @model_validator(mode="after")
    def _one_way_to_cut(self) -> "DataConfig":
        if not self.keep_pitch[0] <= self.keep_pitch[1]:
            raise ValueError(f"keep_pitch needs the lowest first, then the highest, got {list(self.keep_pitch)}")
        if self.windows == "onsets" and self.overlap:
            raise ValueError("overlap is for regular windows, not for windows: onsets")
        return self


class AugmentConfig(Section):
    """What training does to clips as it reads them. Labels follow: a clip played faster is labelled higher."""

    gain_db: Annotated[float, Field(ge=0, le=60)] = 0.0  # louder or softer by up to so much
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0  # later by up to so much of a clip
    semitones: Annotated[float, Field(ge=0, le=24)] = 0.0  # resampled to sound up to so much higher or lower
    # What follows changes one quality of a sound and leaves the rest, so that controls are learned apart; all controls
    # but the pitch are measured anew. Half of the clips each.
    tilt: Annotated[float, Field(ge=0, le=24)] = 0.0  # dB an octave: darker or brighter by up to so much
    fade: Annotated[float, Field(ge=0, le=10)] = 0.0  # seconds: faded in over up to so long
    damp: Annotated[float, Field(ge=0, le=1000)] = 0.0  # dB/s: dies away by up to so much faster
    hiss: Annotated[float, Field(ge=0, le=60)] = 0.0  # dB: noise under the sound, from 60 to 60 - hiss below it

    @property
    def reshapes(self) -> bool:
        """Whether sounds are changed in ways that only a meter can tell."""
        return bool(self.tilt or self.fade or self.damp or self.hiss)


class ModelConfig(Section):
    """The networks. Widths and depths are frame-rate ConvNeXt stacks with mel bins as channels."""

    controls: tuple[ControlName, ...] = ("pitch",)  # descriptors that become named coordinates of the latent
    class_label: str | None = None  # a label of the store (like folder, instrument_family_str) to condition on
    attention_heads: Annotated[int, Field(ge=0, le=64)] = 0  # > 0: self-attention over time in encoder and generator
    timbre_dim: Size = 64
    width: Annotated[int, Field(ge=8, le=8192)] = 192
    kernel: Size = 7
    expansion: Size = 2
    encoder_blocks: Size = 6
    encoder_fine_blocks: Size | None = None  # of them, at every frame: four times as dear as the rest; None: a third
    generator_blocks: Size = 8
    generator_fine_blocks: Size | None = None  # likewise; None: half
    head_blocks: Size = 3
    head_fine_blocks: Size | None = None  # likewise; None: all
    disc_channels: Annotated[tuple[Size, ...], Field(min_length=1)] = (16, 32, 64, 96)
    disc_kernel: Size = 5
    disc_scales: Size = 3
    disc_classes: bool = False  # semi-supervised: the discriminator also learns the class of clips that have one

    @model_validator(mode="after")
    def _centred(self) -> "ModelConfig":
        for name in ("kernel", "disc_kernel"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(f"{name} must be odd, got {getattr(self, name)}")
        for part in ("encoder", "generator", "head"):
            fine, blocks = getattr(self, f"{part}_fine_blocks"), getattr(self, f"{part}_blocks")
            if fine is not None and fine > blocks:
                raise ValueError(f"{part}_fine_blocks {fine} is more than {part}_blocks {blocks}")
        if self.attention_heads and self.width % self.attention_heads:
            raise ValueError(f"attention_heads must divide width {self.width}, got {self.attention_heads}")
        if self.disc_classes and self.class_label is None:
            raise ValueError("disc_classes needs a label to learn: class_label")
        if self.class_label == "pitch":
            raise ValueError("class_label: pitch is no class; it is a control of its own (model.controls)")
        if len(set(self.controls)) < len(self.controls):
            raise ValueError(f"controls names one twice: {', '.join(self.controls)}")
        return self


class LossConfig(Section):
    """The objective's terms and their weights; see `losses.py` for the equations."""

    mel: Weight = 1.0
    reconstruction: Literal["l1", "mse"] = "l1"  # what the mel term measures
    padding: Share = 0.1  # what a padded frame weighs in the mel term, against 1 for a frame that sounds
    kl: Weight = 4e-3  # the beta of a beta-VAE
    free_bits: Weight = 0.0  # nats a timbre coordinate may carry at no cost
    kl_warmup: Share = 0.2  # share of the run over which the KL weight rises from zero
    gan: Literal["hinge", "lsgan", "nonsaturating", "wgan_gp"] = "hinge"
    adversarial: Weight = 0.1
    gradient_penalty: Weight = 10.0  # of wgan_gp
    adversarial_start: Share = 0.15  # share of the run after which the discriminator judges the generator (vaegan)
    feature: Weight = 0.5  # learned similarity (vaegan, vae_disl)
    control: Weight = 0.1
    diversity: Weight = 0.0  # mode seeking: rewards prior samples of one setting of the controls for sounding different


VOCODER_SIZES: dict[str, dict[str, int]] = {
    "fast": {"width": 144, "blocks": 6, "expansion": 2},
    "small": {"width": 256, "blocks": 6},
    "base": {"width": 512, "blocks": 8},
}


def _vocoder_size(value: Any) -> Any:
    """Let `vocoder:` be a size's name, or a mapping that may start from one (`size: name`)."""
    if isinstance(value, str):
        value = {"size": value}
    if isinstance(value, dict) and "size" in value:
        name = value["size"]
        if name not in VOCODER_SIZES:
            raise ValueError(f"no vocoder size {name!r}.{did_you_mean(str(name), VOCODER_SIZES)}")
        return VOCODER_SIZES[name] | {k: v for k, v in value.items() if k != "size"}
    return value


class VocoderConfig(Section):
    """The vocoder stage: its network (`size: fast` or `small` for a CPU, `base` for a GPU), its judges, its losses."""

    width: Annotated[int, Field(ge=8, le=8192)] = 256
    blocks: Size = 6
    kernel: Size = 7
    expansion: Size = 3
    windows: Annotated[tuple[Window, ...], Field(min_length=1)] = (2048, 1024, 512, 256)  # of the STFT loss, in samples
    stft: Weight = 1.0
    mel: Weight = 1.0
    frequency: Weight = 0.3  # of the phase's advance from frame to frame, against the real clip's
    adversarial: Weight = 0.05
    feature: Weight = 0.1
    adversarial_start: Share = 0.3  # share of the run after which the discriminators judge; until then they rest
    disc_windows: Annotated[tuple[Window, ...], Field(min_length=1)] = (1024, 512, 256)  # one discriminator each
    disc_channels: Annotated[tuple[Size, ...], Field(min_length=1)] = (8, 16, 32)
    disc_periods: tuple[Size, ...] = ()  # one more discriminator each, of the waveform folded at this period
    disc_share: Annotated[float, Field(gt=0, le=1)] = 0.25  # of each clip, at a drawn place, is judged
    silence: Share = 0.0  # of the clips fall silent for a stretch, which must stay silent
    noise: Share = 0.0  # of the clips are replaced by noise of any colour, in which no line must be heard
    decoded_share: Share = 0.75  # with --on-decoded: of the clips; the rest come as real mels

    @model_validator(mode="after")
    def _centred(self) -> "VocoderConfig":
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {self.kernel}")
        if any(w < 16 or w % 4 for w in (*self.windows, *self.disc_windows)):
            raise ValueError("windows and disc_windows must be multiples of 4, from 16 on")
        return self


class TrainConfig(Section):
    """The optimisation. The learning rate is a pure function of the step: linear warm-up, then cosine."""

    steps: Positive = 2000
    batch_size: Size = 32  # over all processes and micro-batches
    # Processes, for each that trains, that vary and measure (augment) the clips of coming steps; None: up to four
    # beside a GPU, none on a CPU, whose cores are all at work.
    workers: Annotated[int, Field(ge=0, le=64)] | None = None
    accumulate: Size = 1  # micro-batches a process's part of a batch is worked through in: less memory, same result
    learning_rate: Annotated[float, Field(gt=0)] = 6e-4
    disc_learning_rate: Annotated[float, Field(gt=0)] = 6e-4
    disc_updates: Annotated[int, Field(gt=0, le=64)] = 1  # of the discriminator a step, each on data of its own
    disc_every: Positive = 1  # the discriminator is updated in every so many-th step
    disc_rest_above: Share = 1.0  # it rests in a step in which it ranks more than this share of pairs rightly
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    final_learning_rate: Share = 0.02  # of the peak, at the last step
    betas: tuple[Beta, Beta] = (0.8, 0.99)
    weight_decay: Weight = 1e-2
    grad_clip: Annotated[float, Field(gt=0)] = 5.0
    ema: Share = 0.999
    mixed_precision: Literal["no", "bf16"] = "no"
    growing: Share = 0.0  # share of the run in which resolution grows from coarse to full (progressive growing)
    gan_share: Annotated[float, Field(gt=0, lt=1)] = 0.5  # vae_disl: of the steps, for the GAN that comes first
    prior_share: Share = 0.5  # of a batch: fakes decoded from the prior
    repitch_share: Share = 0.25  # of a batch: fakes decoded from real codes under other controls
    judged_share: Share = 0.25  # of a batch: reconstructions (code detached) judged by the discriminator
    validation_share: Annotated[float, Field(ge=0, le=0.5)] = 0.05  # of the training clips, at most 64, for validation
    best_by: Literal["auto", "val_mel", "val_samples", "val_stft"] = "auto"  # auto: val_stft for a vocoder, val_samples
    # without an encoder, else val_mel
    monitor: Literal["stop", "warn", "off"] = "stop"
    on_nan: Literal["stop", "rollback"] = "stop"  # rollback: back to the last checkpoint, with half the learning rates
    rollbacks: Annotated[int, Field(ge=0, le=64)] = 3  # at most so many in a run
    checkpoint_every: Positive = 250
    keep_checkpoints: Positive = 2
    log_every: Positive = 10
    trackers: tuple[str, ...] = ()  # tensorboard, wandb, mlflow ... : those that Accelerate knows


# What may change between the commands that go on with one run: no weight that is there depends on it.
FREE = tuple(
    f"train.{name}"
    for name in ("trackers", "keep_checkpoints", "log_every", "monitor", "on_nan", "rollbacks", "workers")
)


class Recipe(Section):
    """The whole recipe.

    `objective` selects one of the models that Larsen et al. 2016 compare: `vae` (mel error + KL), `vae_disl` (the mel
    error joined by the features of a discriminator from a GAN that was trained first, then frozen), `gan` (no encoder),
    `vaegan`. `routing` says where the gradient of the GAN goes: `larsen`, never to the encoder; `joint`, there too.
    """

    name: str = "unnamed"
    seed: Seed = 0
    objective: Literal["vae", "vae_disl", "gan", "vaegan"] = "vaegan"
    routing: Literal["larsen", "joint"] = "larsen"
    mel: Annotated[MelConfig, BeforeValidator(_mel_preset)] = MelConfig()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    vocoder: Annotated[VocoderConfig, BeforeValidator(_vocoder_size)] = VocoderConfig()
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _grows(self) -> "Recipe":
        if self.train.growing and self.model.disc_scales < 3:
            raise ValueError(f"train.growing needs model.disc_scales of 3 or more, got {self.model.disc_scales}")
        blocks = self.model.generator_blocks
        if self.train.growing and (self.model.generator_fine_blocks or -(-blocks // 2)) == blocks:
            raise ValueError(
                "train.growing begins with coarse blocks: fewer model.generator_fine_blocks, or more blocks"
            )
        return self

    @model_validator(mode="after")
    def _judged(self) -> "Recipe":
        if self.model.disc_classes and not self.adversarial:
            raise ValueError(f"model.disc_classes needs a discriminator; objective {self.objective} trains none")
        return self

    @model_validator(mode="after")
    def _whole_frames(self) -> "Recipe":
        hop, samples = self.mel.hop_length, self.data.clip_samples
        if samples % hop:
            raise ValueError(f"data.clip_samples must be a multiple of mel.hop_length ({hop}), got {samples}")
        frames, smallest = self.mel.frames(samples), 2 ** (self.model.disc_scales - 1)
        if min(frames, self.mel.n_mels) < smallest:
            raise ValueError(
                f"model.disc_scales {self.model.disc_scales} needs {smallest} frames and bands, "
                f"there are {frames} and {self.mel.n_mels}"
            )
        return self

    @property
    def encodes(self) -> bool:
        """Whether there is an encoder."""
        return self.objective != "gan"

    @property
    def adversarial(self) -> bool:
        """Whether a discriminator is trained, and judges the generator."""
        return self.objective in ("gan", "vaegan")

    @property
    def similar(self) -> bool:
        """Whether discriminator features measure how alike a sound and its reconstruction are."""
        return self.objective in ("vae_disl", "vaegan")
