"""What belongs together when data is split."""


def connected(holds: dict[str, set[str]]) -> dict[str, str]:
    """Connected components of names that hold something in common (instruments a sample, sources equal files).

    Returns for each name the smallest name of its component.
    """
    parent = {name: name for name in holds}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = name = parent[parent[name]]
        return name

    owner: dict[str, str] = {}
    for name in sorted(holds):
        for thing in holds[name]:
            a, b = sorted((root(name), root(owner.setdefault(thing, name))))
            parent[b] = a
    return {name: root(name) for name in holds}
