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
    const note = {};
    playing.set(button, note);
    button.classList.add("down");
    context ??= new AudioContext();
    await context.resume();
    const buffer = await sound(button);
    if (playing.get(button) !== note) return;  // let go before its sound was there
    note.source = context.createBufferSource();
    note.gain = context.createGain();
    note.source.buffer = buffer;
    note.source.connect(note.gain).connect(context.destination);
    note.source.start();
    element.dataset.played = button.dataset.key;
}

function release(button) {
    const note = playing.get(button);
    if (!note) return;
    playing.delete(button);
    button.classList.remove("down");
    if (!note.source) return;
    note.gain.gain.setTargetAtTime(0, context.currentTime, 0.04);
    note.source.stop(context.currentTime + 0.3);
}

const under = (event) => document.elementFromPoint(event.clientX, event.clientY)?.closest?.(".key");
const held = new Map();  // code of a key of the computer -> the key that it plays
const byHand = () => [...playing.keys()].filter((b) => ![...held.values()].includes(b));
element.addEventListener("pointerdown", (event) => {
    const button = event.target.closest(".key");
    if (!button) return;
    event.target.releasePointerCapture?.(event.pointerId);
    press(button);
});
element.addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    const button = under(event);
    for (const other of byHand()) if (other !== button) release(other);
    if (button && element.contains(button)) press(button);
});
for (const name of ["pointerup", "pointerleave", "pointercancel"])
    element.addEventListener(name, () => byHand().forEach(release));

const pressing = ["Space", "Enter", "NumpadEnter"];  // play the key that has the focus
const typing = (target) => target.closest?.("input, textarea, select, [contenteditable]");
document.addEventListener("keydown", (event) => {
    const all = keys(), key = event.key.toLowerCase();
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    if (!all.length || !all[0].offsetParent) return;
    if (pressing.includes(event.code) && all.includes(event.target)) {
        event.preventDefault();
        held.set(event.code, event.target);
        press(event.target);
        return;
    }
    if (key === "z" || key === "x") {
        octave = Math.max(-2, Math.min(4, octave + (key === "x" ? 1 : -1)));
        return;
    }
    const index = order.indexOf(key), base = Math.max(0, all.findIndex((b) => b.dataset.key % 12 === 0));
    const button = index < 0 ? null : all[base + 12 * octave + index];
    if (!button) return;
    held.set(event.code, button);
    press(button);
});
const letGo = (code) => {
    release(held.get(code));
    held.delete(code);
};
document.addEventListener("keyup", (event) => letGo(event.code));
element.addEventListener("focusout", () => pressing.forEach(letGo));
window.addEventListener("blur", () => [...held.keys()].forEach(letGo));
