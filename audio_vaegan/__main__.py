"""Where `audio-vaegan` and `python -m audio_vaegan` begin: what is slow to import is imported under guard, so that
Ctrl-C ends a command in one line from its first moment on."""

import sys

from audio_vaegan.guard import guarded, share_cores


def main() -> int:
    def run() -> int:
        from audio_vaegan.cli import main as command  # slow to import

        return command()

    share_cores()
    return guarded(run)


if __name__ == "__main__":
    sys.exit(main())
