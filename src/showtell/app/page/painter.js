// A picture to paint on: the value is {picture: data URL, mask: data URL of what was painted or null}.
const base = element.querySelector(".st-base");
const canvas = element.querySelector(".st-paint");
const size = element.querySelector(".st-size");
const pen = canvas.getContext("2d");
const INK = "rgba(226, 72, 46, 1)";
let erasing = false, last = null, strokes = [], shown = null, told = null;

function say(mask) {
  told = mask;
  props.value = { picture: shown, mask };
  trigger("input");
}
function place(event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
}
function draw(from, to) {
  pen.globalCompositeOperation = erasing ? "destination-out" : "source-over";
  pen.strokeStyle = INK;
  pen.lineCap = pen.lineJoin = "round";
  pen.lineWidth = (Number(size.value) / 100) * Math.max(canvas.width, canvas.height);
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
}
canvas.addEventListener("pointerdown", (event) => {
  if (!shown) return;
  strokes.push(pen.getImageData(0, 0, canvas.width, canvas.height));
  if (strokes.length > 20) strokes.shift();
  canvas.setPointerCapture(event.pointerId);
  last = place(event);
  draw(last, last);
  event.preventDefault();
});
canvas.addEventListener("pointermove", (event) => {
  if (!last) return;
  const here = place(event);
  draw(last, here);
  last = here;
});
function lift() {
  if (!last) return;
  last = null;
  tell();
}
canvas.addEventListener("pointerup", lift);
canvas.addEventListener("pointercancel", lift);
function tell() {
  const painted = pen.getImageData(0, 0, canvas.width, canvas.height).data.some((v, i) => i % 4 === 3 && v > 0);
  say(painted ? canvas.toDataURL("image/png") : null);
}
element.querySelector(".st-erase").addEventListener("click", (event) => {
  erasing = !erasing;
  event.currentTarget.setAttribute("aria-pressed", String(erasing));
});
element.querySelector(".st-undo").addEventListener("click", () => {
  const before = strokes.pop();
  if (before) { pen.putImageData(before, 0, 0); tell(); }
});
element.querySelector(".st-clear").addEventListener("click", () => {
  strokes = [];
  pen.clearRect(0, 0, canvas.width, canvas.height);
  if (shown) tell();
});
function lay(mask) {
  pen.clearRect(0, 0, canvas.width, canvas.height);
  if (!mask) return;
  const kept = new Image();
  kept.onload = () => {
    pen.globalCompositeOperation = "source-over";
    if (told === mask) pen.drawImage(kept, 0, 0, canvas.width, canvas.height);
  };
  kept.src = mask;
}
function show() {
  const value = props.value || {};
  const fresh = value.picture || null, mask = value.mask || null;
  element.querySelector(".st-canvas").classList.toggle("st-empty", !fresh);
  if (fresh === shown && mask === told) return; // what was painted here comes back
  told = mask;
  strokes = [];
  if (!fresh) { shown = null; base.removeAttribute("src"); canvas.width = canvas.height = 1; return; }
  if (fresh === shown) { lay(mask); return; }
  shown = fresh;
  base.onload = () => {
    canvas.width = base.naturalWidth;
    canvas.height = base.naturalHeight;
    lay(mask);
  };
  base.src = fresh;
}
watch("value", show);
show();
