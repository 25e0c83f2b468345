// What all plots share. The files of this folder become one function (page.py); texts of the run are only ever put in
// as text.
const data = JSON.parse(document.getElementById("data").textContent);
const tip = document.getElementById("tip");
const INK = "#1b2430", SOFT = "#5b6673", LINE = "#e6e9ed";
const FONT = "12px system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif";
const plots = (window.reportPlots = {});
const number = new Intl.NumberFormat("en-US");
const short = (v) => (v === null ? "-" : String(Number(Number(v).toPrecision(4))));

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}
function width(holder) { return Math.max(280, Math.floor(holder.getBoundingClientRect().width)); }

// ---- the box at the pointer
function showTip(u, lines) {
  tip.replaceChildren();
  lines.forEach((line, i) => { if (line) tip.append(i ? element("div", "", line) : element("b", "", line)); });
  tip.hidden = false;
  const box = u.over.getBoundingClientRect();
  const x = box.left + u.cursor.left + window.scrollX, y = box.top + u.cursor.top + window.scrollY;
  const right = x + 16 + tip.offsetWidth > window.scrollX + document.documentElement.clientWidth;
  tip.style.left = Math.max(4, right ? x - tip.offsetWidth - 14 : x + 16) + "px";
  tip.style.top = y + 14 + "px";
}
function hideTip() { tip.hidden = true; }
function leaveHides(u) { u.over.addEventListener("mouseleave", hideTip); }

function axis(more) {
  return Object.assign({ stroke: SOFT, font: FONT, labelFont: FONT, labelSize: 20, grid: { stroke: LINE, width: 1 }, ticks: { stroke: LINE, width: 1 } }, more);
}
function clipped(u, draw) {
  const { ctx } = u;
  ctx.save();
  ctx.beginPath();
  ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  ctx.clip();
  draw(ctx);
  ctx.restore();
}
function verticalLine(u, x, colour) {
  clipped(u, (ctx) => {
    const at = u.valToPos(x, "x", true);
    ctx.strokeStyle = colour; ctx.lineWidth = uPlot.pxRatio; ctx.setLineDash([4 * uPlot.pxRatio, 3 * uPlot.pxRatio]);
    ctx.beginPath(); ctx.moveTo(at, u.bbox.top); ctx.lineTo(at, u.bbox.top + u.bbox.height); ctx.stroke();
  });
}
const nothing = () => null;
const bare = { points: { show: false }, paths: nothing };
