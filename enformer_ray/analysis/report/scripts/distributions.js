// Histograms of scores by assay.
function histogram(box, d) {
  if (!d.up.length) { box.append(element("p", "note", "every score is 0")); return null; }
  const x = d.up.map((_, i) => (d.edges[i] + d.edges[i + 1]) / 2);
  const highest = d.up.reduce((a, v, i) => Math.max(a, v + d.down[i]), 0);
  const low = d.floor === null ? d.edges[0] - 0.2 : Math.min(d.floor - 0.2, Math.max(d.edges[0] - 0.2, d.floor - 3)), high = d.edges[d.edges.length - 1] + 0.2;
  function draw(u) {
    const bottom = u.valToPos(0, "y", true);
    clipped(u, (ctx) => {
      d.up.forEach((up, i) => {
        const left = u.valToPos(d.edges[i], "x", true), right = u.valToPos(d.edges[i + 1], "x", true), w = Math.max(1, right - left - 1);
        const first = u.valToPos(d.down[i], "y", true), second = u.valToPos(d.down[i] + up, "y", true);
        ctx.fillStyle = data.colours.down; ctx.fillRect(left, first, w, bottom - first);
        ctx.fillStyle = data.colours.up; ctx.fillRect(left, second, w, first - second);
      });
    });
    if (d.floor !== null) verticalLine(u, d.floor, INK);
  }
  const power = (v) => { const n = Math.round(v); return "10" + String(n).replace(/[-0-9]/g, (c) => "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"["-0123456789".indexOf(c)]); };
  return new uPlot({
    width: width(box), height: 190, legend: { show: false },
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
    scales: { x: { time: false, range: [low, high] }, y: { range: [0, highest * 1.05] } },
    series: [{}, bare],
    axes: [axis({ values: (u, marks) => marks.map((v) => (Number.isInteger(v) ? power(v) : "")), incrs: [1, 2, 3, 4, 5], space: 34, size: 30 }),
      axis({ size: 58, values: (u, marks) => marks.map((v) => (Number.isInteger(v) ? number.format(v) : "")) })],
    hooks: { draw: [draw], ready: [leaveHides], setCursor: [(u) => {
      const i = u.cursor.idx;
      if (i === null || i === undefined || u.cursor.left < 0) { hideTip(); return; }
      showTip(u, [short(Math.pow(10, d.edges[i])) + " to " + short(Math.pow(10, d.edges[i + 1])), "up " + number.format(d.up[i]), "down " + number.format(d.down[i])]);
    }] },
  }, [x, d.up.map((v, i) => v + d.down[i])], box);
}
