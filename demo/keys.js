let context = null, octave = 0;
const sounds = new Map(), playing = new Map();
const order = "awsedftgyhujkolp";
const keys = () => [...element.querySelectorAll(".key")];

async function sound(button) {
    const data = button.dataset.sound;
    if (!sounds.has(data)) {
        const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
        sounds.set(data, await context.decodeAudioData(bytes.buffer));
    }
    return sounds.get(data);
}

async function press(button) {
    if (!button || playing.has(button)) return;
    playing.set(button, null);
    button.classList.add("down");
    context ??= new AudioContext();
    await context.resume();
    const source = context.createBufferSource(), gain = context.createGain();
    source.buffer = await sound(button);
    source.connect(gain).connect(context.destination);
    source.start();
    element.dataset.played = button.dataset.key;
    if (playing.has(button)) playing.set(button, { source, gain });
    else fade({ source, gain });
}

function fade(note) {
    const now = context.currentTime;
    note.gain.gain.setTargetAtTime(0, now, 0.04);
    note.source.stop(now + 0.3);
}

function release(button) {
    if (!button || !playing.has(button)) return;
    const note = playing.get(button);
    playing.delete(button);
    button.classList.remove("down");
    if (note) fade(note);
}

const under = (event) => document.elementFromPoint(event.clientX, event.clientY)?.closest?.(".key");
element.addEventListener("pointerdown", (event) => {
    const button = event.target.closest(".key");
    if (!button) return;
    event.target.releasePointerCapture?.(event.pointerId);
    press(button);
});
element.addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    const button = under(event);
    for (const other of playing.keys()) if (other !== button && !other.dataset.typed) release(other);
    if (button && element.contains(button)) press(button);
});
for (const name of ["pointerup", "pointerleave", "pointercancel"])
    element.addEventListener(name, () => { for (const b of [...playing.keys()]) if (!b.dataset.typed) release(b); });

const typing = (target) => target.closest?.("input, textarea, select, [contenteditable]");
const typed = (event) => {
    const index = order.indexOf(event.key.toLowerCase());
    if (index < 0 || event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return null;
    const all = keys();
    if (!all.length || !all[0].offsetParent) return null;
    const base = all.findIndex((b) => b.dataset.key % 12 === 0);
    return all[(base < 0 ? 0 : base) + 12 * octave + index] ?? null;
};
document.addEventListener("keydown", (event) => {
    if (event.repeat) return;
    if (!typing(event.target) && element.offsetParent && "zx".includes(event.key.toLowerCase())) {
        octave = Math.max(-2, Math.min(4, octave + (event.key.toLowerCase() === "x" ? 1 : -1)));
        return;
    }
    const button = typed(event);
    if (button) {
        button.dataset.typed = "yes";
        press(button);
    }
});
document.addEventListener("keyup", (event) => {
    const button = typed(event);
    if (button) {
        delete button.dataset.typed;
        release(button);
    }
});
