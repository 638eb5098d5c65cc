// The slider over the recorded moments, with its buttons and keys, and the cursors of the loss curves.
// A page sets scrub.show, which draws scrub.moment, and scrub.tell, what a screen reader says of it.
const { steps } = page.data;
const scrub = { moment: steps.length - 1, pause: 100, show() {}, tell: () => "", keys: {} };
{
  const slider = page.find("#moment"), play = page.find("#play"), last = steps.length - 1, { left, right } = page.data.chart;
  let playing = 0, telling = 0;

  scrub.draw = page.soon(() => {
    const told = `step ${steps[scrub.moment]} of ${steps[last]}`;
    slider.value = scrub.moment;
    slider.setAttribute("aria-valuetext", told);
    page.find("#told").textContent = told;
    const at = left + (right - left) * steps[scrub.moment] / steps[last];
    for (const cursor of page.all(".cursor")) cursor.setAttribute("transform", `translate(${at})`);
    scrub.show();
  });
  const go = (to) => {
    scrub.moment = Math.max(0, Math.min(last, to));
    scrub.draw();
    clearTimeout(telling);
    telling = setTimeout(() => page.announce(`Step ${steps[scrub.moment]} of ${steps[last]}. ${scrub.tell()}`), 600);
  };
  const stop = () => {
    clearInterval(playing);
    playing = 0;
    play.textContent = "▶ Play";
    play.setAttribute("aria-pressed", false);
  };
  const toggle = () => {
    if (playing) return stop();
    if (scrub.moment === last) go(0);
    play.textContent = "⏸ Pause";
    play.setAttribute("aria-pressed", true);
    playing = setInterval(() => (scrub.moment < last ? go(scrub.moment + 1) : stop()), scrub.pause);
  };
  const by = (to) => () => { stop(); go(to()); };
  const first = by(() => 0), back = by(() => scrub.moment - 1), next = by(() => scrub.moment + 1), end = by(() => last);

  for (const [id, work] of Object.entries({ first, back, next, end, play: toggle })) page.find(`#${id}`).addEventListener("click", work);
  slider.addEventListener("input", () => { stop(); go(Number(slider.value)); });

  for (const chart of page.all(".chart")) {
    const seek = (event) => {
      const box = chart.getBoundingClientRect(), x = (event.clientX - box.left) * chart.viewBox.baseVal.width / box.width;
      const step = (x - left) / (right - left) * steps[last];
      stop();
      go(steps.reduce((best, at, i) => (Math.abs(at - step) < Math.abs(steps[best] - step) ? i : best), 0));
    };
    chart.addEventListener("pointerdown", (event) => { chart.setPointerCapture(event.pointerId); seek(event); });
    chart.addEventListener("pointermove", (event) => { if (event.buttons) seek(event); });
  }

  scrub.keys = { ArrowLeft: back, ArrowRight: next, Home: first, End: end, " ": toggle };
  document.addEventListener("keydown", (event) => {
    const letter = event.key.length === 1 && event.key !== " ", own = event.target.closest("input, select, button");
    if (page.typing() || event.ctrlKey || event.metaKey || event.altKey || (own && !letter) || !scrub.keys[event.key]) return;
    event.preventDefault();
    scrub.keys[event.key]();
  });
}
