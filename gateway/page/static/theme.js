// Dark or light: what the system prefers, until somebody switches. Loaded before the first paint, so that nothing flashes.
(() => {
  const root = document.documentElement;
  const key = "lepton.theme";
  const kept = () => {
    try { return localStorage.getItem(key); } catch { return null; } // storage may be forbidden
  };
  const apply = (theme) => { root.dataset.theme = theme === "dark" || theme === "light" ? theme : "system"; };
  apply(kept());
  addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
      const dark = root.dataset.theme === "system" ? matchMedia("(prefers-color-scheme: dark)").matches : root.dataset.theme === "dark";
      apply(dark ? "light" : "dark");
      try { localStorage.setItem(key, root.dataset.theme); } catch { /* it holds until the page is closed */ }
    });
  });
})();
