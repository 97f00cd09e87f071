// Keys, and tooltips with the field's terms.
(() => {
  const ROOMS = ["tell", "show", "describe", "inside"];
  const RUN = { tell: "tell-run", show: "show-learn", describe: "describe-run", inside: "inside-look" };
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
      ROOMS.map((room) => `${room}-stop`).concat("show-apply-stop").some(press);
    } else if (event.altKey && /^[1-4]$/.test(event.key)) {
      const tabs = document.querySelectorAll('#st-rooms button[role="tab"]');
      const tab = tabs[Number(event.key) - 1];
      if (tab) { tab.click(); tab.focus(); event.preventDefault(); }
    }
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
