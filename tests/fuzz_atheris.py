"""One parser under atheris, which looks for inputs that reach new code: NAME STORE FOLDER, then libFuzzer's options."""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["audio_vaegan"], enable_loader_override=False):
    from readers import readers


def main() -> None:
    name, store, folder = sys.argv[1:4]
    good, read = readers(Path(folder) / "files", Path(store))[name]
    corpus = Path(folder) / "corpus"
    corpus.mkdir()
    (corpus / "good").write_bytes(good)

    def target(data: bytes) -> None:
        read(data)

    atheris.Setup([sys.argv[0], *sys.argv[4:], str(corpus)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
