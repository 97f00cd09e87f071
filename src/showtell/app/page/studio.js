// Keys, and tooltips with the field's terms.
(() => {
  const ROOMS = ["tell", "show", "describe", "inside"];
  const RUN = { tell: "tell-run", show: "show-learn", describe: "describe-run", inside: "inside-look" };
  const STOP = {
    "tell-line": "tell-stop", "show-line": "show-stop", "show-apply-line": "show-apply-stop",
    "describe-line": "describe-stop", "inside-line": "inside-stop",
  };
  const visible = (id) => {
    const found = document.getElementById(id);
    return found && found.offsetParent !== null ? found : null;
  };
  const press = (id) => {
    const found = visible(id);
    const button = found && (found.matches("button") ? found : found.querySelector("button"));
    if (button && !button.disabled) button.click();
    return Boolean(button);
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      const inApplying = document.activeElement && document.activeElement.closest("#show-words, #show-strength, #show-apply-seed");
      const wanted = inApplying ? ["show-apply"] : ROOMS.map((room) => RUN[room]);
      // a text box tells the server what it holds when it is left
      if (document.activeElement && document.activeElement.blur) document.activeElement.blur();
      setTimeout(() => wanted.some(press), 120);
      event.preventDefault();
    } else if (event.key === "Escape") {
      // it closes lists and whole-screen pictures first
      if (document.fullscreenElement || document.querySelector('[role="listbox"], [role="dialog"], .fullscreen')) return;
      const going = Object.entries(STOP).find(([line]) => visible(line) && document.querySelector(`#${line} .st-busy`));
      if (going) press(going[1]);
    } else if (event.altKey && /^[1-4]$/.test(event.key)) {
      // on a narrow page the last ones are in a menu
      const tabs = document.querySelectorAll('#st-rooms button[role="tab"], #st-rooms .overflow-dropdown button');
      const tab = tabs[Number(event.key) - 1];
      if (tab) { tab.click(); tab.focus(); event.preventDefault(); }
    }
  });
  // A slider that was moved by keys is released a moment after the last one.
  let letting = null;
  document.addEventListener("keyup", (event) => {
    const slider = event.target.closest && event.target.closest("#describe-eta input");
    if (!slider || !(event.key.startsWith("Arrow") || ["Home", "End", "PageUp", "PageDown", "Enter"].includes(event.key))) return;
    clearTimeout(letting);
    letting = setTimeout(() => document.querySelector("#describe-eta input[type=range]").dispatchEvent(new Event("pointerup", { bubbles: true })), 500);
  });
  const tell = () => {
    for (const [id, tip] of Object.entries(window.showtellTips || {})) {
      const found = document.getElementById(id);
      if (found && found.title !== tip) found.title = tip;
    }
  };
  new MutationObserver(tell).observe(document.documentElement, { childList: true, subtree: true });
  document.addEventListener("DOMContentLoaded", tell);
})();
