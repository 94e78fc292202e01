package main

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"
)

// bar is what a chart shows of one server: the median of its rounds, and the least and the most.
type bar struct {
	name             string
	value, low, high float64
	note             string // beside the value
	ours             bool
}

// The style of all charts: without a background, and with colours that show on light and on dark.
const chartStyle = `<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.small { font-size: 11px }
.ours { fill: #0969da; stroke: #0969da }
.other { fill: #818b98; stroke: #818b98 }
.third { fill: #bc4c00; stroke: #bc4c00 }
.range, .axis { stroke: #1f2328; stroke-width: 1 }
.grid { stroke: #818b98; stroke-width: 0.5; stroke-dasharray: 2 3 }
.line { fill: none; stroke-width: 2 }
.name { stroke: none }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.ours { fill: #4493f8; stroke: #4493f8 }
.other { fill: #9198a1; stroke: #9198a1 }
.third { fill: #db6d28; stroke: #db6d28 }
.range, .axis { stroke: #e6edf3 }
}
</style>
`

const chartWidth = 720

func openChart(height int, title, unit string) *strings.Builder {
	b := new(strings.Builder)
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">`+"\n",
		chartWidth, height, chartWidth, height)
	fmt.Fprintf(b, "<title>%s, %s</title>\n%s", html.EscapeString(title), html.EscapeString(unit), chartStyle)
	fmt.Fprintf(b, `<text class="title" x="8" y="20">%s</text>`+"\n", html.EscapeString(title))
	fmt.Fprintf(b, `<text class="small" x="8" y="36">%s</text>`+"\n", html.EscapeString(unit))
	return b
}

// barChart draws a bar for each, from above, with a thin line from the least to the most.
func barChart(title, unit string, bars []bar) string {
	const left, right, top, step, thick = 120, 200, 52, 26, 16
	b := openChart(top+step*len(bars)+8, title, unit)
	most := 0.0
	for _, x := range bars {
		most = max(most, x.high)
	}
	scale := func(v float64) float64 {
		if most == 0 {
			return 0
		}
		return max(v, 0) / most * (chartWidth - left - right)
	}
	for i, x := range bars {
		y := top + step*i
		class := "other"
		if x.ours {
			class = "ours"
		}
		fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", left-8, y+13, html.EscapeString(x.name))
		fmt.Fprintf(b, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/>`+"\n",
			class, left, y, scale(x.value), thick)
		fmt.Fprintf(b, `<path class="range" d="M%.1f %dH%.1f"/>`+"\n", left+scale(x.low), y+thick/2, left+scale(x.high))
		fmt.Fprintf(b, `<text x="%.1f" y="%d">%s%s</text>`+"\n", left+scale(max(x.value, x.high))+8, y+13, figure(x.value),
			html.EscapeString(x.note))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// curve is what a chart of lines shows of one server.
type curve struct {
	name   string
	points []point
}

type point struct{ x, y float64 }

// lineChart draws a line for each, on two logarithmic scales.
func lineChart(title, unit, xs string, curves []curve) string {
	const left, right, top, bottom, height = 70, 80, 56, 44, 360
	b := openChart(height, title, unit)
	low, high := point{math.Inf(1), math.Inf(1)}, point{math.Inf(-1), math.Inf(-1)}
	for _, c := range curves {
		for _, p := range c.points {
			low = point{min(low.x, p.x), min(low.y, p.y)}
			high = point{max(high.x, p.x), max(high.y, p.y)}
		}
	}
	low, high = decades(low, high)
	at := func(p point) (x, y float64) {
		return left + math.Log10(p.x/low.x)/math.Log10(high.x/low.x)*(chartWidth-left-right),
			height - bottom - math.Log10(p.y/low.y)/math.Log10(high.y/low.y)*(height-top-bottom)
	}
	for v := low.x; v <= high.x*1.01; v *= 10 {
		x, y := at(point{v, low.y})
		fmt.Fprintf(b, `<path class="grid" d="M%.1f %dV%.1f"/>`+
			`<text class="small" x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n",
			x, top, y, x, y+16, grouped(v))
	}
	for v := low.y; v <= high.y*1.01; v *= 10 {
		x, y := at(point{low.x, v})
		fmt.Fprintf(b, `<path class="grid" d="M%.1f %.1fH%d"/>`+
			`<text class="small" x="%.1f" y="%.1f" text-anchor="end">%s</text>`+"\n",
			x, y, chartWidth-right, x-6, y+4, grouped(v))
	}
	fmt.Fprintf(b, `<text class="small" x="%d" y="%d" text-anchor="middle">%s</text>`+"\n",
		(left+chartWidth-right)/2, height-8, html.EscapeString(xs))
	labels := make([]label, 0, len(curves))
	for i, c := range curves {
		class := [...]string{"third", "other", "ours"}[i%3]
		path, end := "", point{}
		for _, p := range c.points {
			x, y := at(p)
			path += fmt.Sprintf("%c%.1f %.1f", "ML"[min(len(path), 1)], x, y)
			fmt.Fprintf(b, `<circle class="%s" cx="%.1f" cy="%.1f" r="3"/>`+"\n", class, x, y)
			end = point{x, y}
		}
		fmt.Fprintf(b, `<path class="%s line" style="fill:none" d="%s"/>`+"\n", class, path)
		labels = append(labels, label{c.name, class, end})
	}
	for _, l := range spread(labels) {
		x, y, anchor := l.x+10, l.y+4, "start"
		if slices.ContainsFunc(labels, func(other label) bool { return other.x > l.x }) { // that line goes on to the right
			x, y, anchor = l.x-8, l.y-4, "end"
		}
		fmt.Fprintf(b, `<text class="%s name" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", l.class, x, y, anchor,
			html.EscapeString(l.name))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// label is the name of a curve, at its end.
type label struct {
	name, class string
	point
}

// spread moves labels that would lie on each other, or on the end of another curve, apart: upwards, the highest the most.
func spread(labels []label) []label {
	const apart = 17
	sorted := slices.SortedStableFunc(slices.Values(labels), func(a, b label) int { return cmp.Compare(b.y, a.y) })
	for i := range sorted {
		for _, below := range sorted[:i] {
			if below.x == sorted[i].x {
				sorted[i].y = min(sorted[i].y, below.y-apart)
			}
		}
	}
	return sorted
}

// figure prints a number with four digits, and more if it is larger.
func figure(x float64) string {
	if x >= 1000 {
		return grouped(math.Round(x))
	}
	return digits(x)
}

// grouped prints a number with a comma before each three digits of its whole part.
func grouped(x float64) string {
	whole, part, ok := strings.Cut(strconv.FormatFloat(x, 'f', -1, 64), ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if ok {
		return whole + "." + part
	}
	return whole
}

// decades widens a range to whole powers of ten.
func decades(low, high point) (point, point) {
	down := func(v float64) float64 { return math.Pow(10, math.Floor(math.Log10(v))) }
	up := func(v, least float64) float64 { return max(math.Pow(10, math.Ceil(math.Log10(v))), least*10) }
	low = point{down(low.x), down(low.y)}
	return low, point{up(high.x, low.x), up(high.y, low.y)}
}
