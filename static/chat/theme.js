// Before the first paint: the reader's own choice between dark and light, where there is one.
(() => {
  try {
    const theme = localStorage.getItem("bancobot.theme");
    if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
  } catch {
    // no storage: as the system has it
  }
})();
