const { panels } = page.data;
const planes = page.all("article").map((article) => ({ walks: page.all(".walk", article), rows: page.all("tbody tr", article), curves: page.all(".curve", article) }));
scrub.pause = 80;

scrub.show = () => {
  panels.forEach((panel, p) => panel.pixels.forEach((pixels, i) => {
    const last = Math.min(scrub.moment, pixels.length - 1), walk = planes[p].walks[i], row = planes[p].rows[i];
    const line = "M" + pixels.slice(0, last + 1).map((at) => at.join(" ")).join("L");
    for (const path of page.all(".path, .under", walk)) path.setAttribute("d", line);
    page.find(".head", walk).setAttribute("transform", `translate(${pixels[last].join(" ")})`);
    page.all("td", row).forEach((cell, k) => { cell.textContent = page.shown(panel.paths[i][last][k]); });
  }));
};
page.find("#shown").addEventListener("change", (event) => planes.forEach(({ walks, rows, curves }) => {
  for (const part of [walks, rows, curves].map((all) => all[event.target.value])) part.classList.toggle("off", !event.target.checked);
}));

scrub.draw();
