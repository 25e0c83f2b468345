// Throughput, and the timeline of workers.
function clock(seconds) {
  if (seconds < 120) return short(seconds) + " s";
  if (seconds < 7200) return short(seconds / 60) + " min";
  return short(seconds / 3600) + " h";
}
const clockIncrements = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 432000];
const times = () => axis({ values: (u, marks) => marks.map(clock), incrs: clockIncrements, space: 80 });
function throughput(holder, t) {
  const rates = t.rates.map((p) => p[1]), step = t.rates.length > 1 ? t.rates[1][0] - t.rates[0][0] : t.seconds;
  const x = [Math.max(0, t.rates[0][0] - step), ...t.rates.map((p) => p[0])], y = [rates[0], ...rates];
  return new uPlot({
    width: width(holder), height: 200, legend: { show: false },
    cursor: { y: false, drag: { x: true, y: false } },
    scales: { x: { time: false, range: (u, a, b) => [a, b] }, y: { range: [0, Math.max(...rates) * 1.08 || 1] } },
    series: [{}, { stroke: data.colours.bar, width: 1.6, fill: "rgba(0,114,178,0.12)", paths: uPlot.paths.stepped({ align: -1 }), points: { show: false } }],
    axes: [times(), axis({ label: "variants/s", size: 60 })],
    hooks: { ready: [leaveHides], setCursor: [(u) => {
      const i = u.cursor.idx;
      if (i === null || i === undefined || u.cursor.left < 0) { hideTip(); return; }
      showTip(u, [short(y[i]) + " variants/s", "until " + clock(x[i])]);
    }] },
  }, [x, y], holder);
}
function workers(holder, t) {
  const count = t.workers.length, row = Math.max(2, Math.min(22, Math.floor(520 / count)));
  const named = row >= 12, rows = t.workers.map(() => []);
  t.bars.forEach((b) => rows[b[0]].push(b));
  const shades = ["#0072b2", "#56b4e9"];
  function draw(u) {
    clipped(u, (ctx) => rows.forEach((bars, w) => {
      const top = u.valToPos(w, "y", true), bottom = u.valToPos(w + 1, "y", true), gap = Math.min(2 * uPlot.pxRatio, (bottom - top) * 0.15);
      bars.forEach((b, k) => {
        const left = u.valToPos(b[1], "x", true), right = u.valToPos(b[2], "x", true);
        ctx.fillStyle = shades[k % 2];
        ctx.fillRect(left, top + gap, Math.max(1, right - left), bottom - top - 2 * gap);
      });
    }));
  }
  return new uPlot({
    width: width(holder), height: count * row + 60, legend: { show: false },
    cursor: { y: false, points: { show: false }, drag: { x: true, y: false } },
    scales: { x: { time: false, range: (u, a, b) => [a, b] }, y: { dir: -1, range: [0, count] } },
    series: [{}, bare],
    axes: [times(), axis({ size: named ? 130 : 60, grid: { show: false }, ticks: { show: false },
      splits: () => (named ? t.workers.map((_, i) => i + 0.5) : [0.5, count - 0.5]),
      values: (u, marks) => marks.map((v) => { const name = t.workers[Math.floor(v)]; return named ? (name.length > 18 ? name.slice(0, 17) + "\u2026" : name) : "#" + Math.ceil(v); }) })],
    hooks: { draw: [draw], ready: [leaveHides], setCursor: [(u) => {
      const { left, top } = u.cursor;
      if (left < 0) { hideTip(); return; }
      const w = Math.floor(u.posToVal(top, "y")), at = u.posToVal(left, "x");
      const bar = (rows[w] || []).find((b) => at >= b[1] && at <= b[2]);
      if (!bar) { hideTip(); return; }
      showTip(u, [t.workers[w], number.format(bar[3]) + " variants" + (bar[4] > 1 ? " in " + number.format(bar[4]) + " parts" : ""), clock(bar[1]) + " to " + clock(bar[2])]);
    }] },
  }, [[0, t.seconds || 1], [0, count]], holder);
}
