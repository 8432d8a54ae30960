// Before the first paint: the reader's own choice between dark and light, where there is one.
(() => {
  try {
    const { dataset } = document.documentElement;
    const theme = localStorage.getItem(`bancobot${dataset.base}.theme`); // as access.js names it
    if (theme === "dark" || theme === "light") dataset.theme = theme;
  } catch {
    // no storage: as the system has it
  }
})();
