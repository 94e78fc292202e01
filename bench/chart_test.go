package main

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// elements returns the elements of an SVG with a name, and fails if it is not well-formed.
func elements(t *testing.T, svg, name string) (all []map[string]string) {
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := d.Token()
		if err == io.EOF {
			return all
		}
		require.NoError(t, err)
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == name {
			attrs := map[string]string{}
			for _, a := range e.Attr {
				attrs[a.Name.Local] = a.Value
			}
			all = append(all, attrs)
		}
	}
}

func TestBarChart(t *testing.T) {
	svg := barChart("Lines & <more>", "CPU µs", []bar{
		{name: "parley", value: 2, low: 1, high: 4, note: ", 2.00 × c", ours: true},
		{name: "c", value: 1, low: 1, high: 1},
	})
	rects := elements(t, svg, "rect")
	require.Len(t, rects, 2)
	require.Equal(t, []string{"ours", "200.0", "120"}, []string{rects[0]["class"], rects[0]["width"], rects[0]["x"]})
	require.Equal(t, []string{"other", "100.0", "120"}, []string{rects[1]["class"], rects[1]["width"], rects[1]["x"]})
	require.Equal(t, "M220.0 60H520.0", elements(t, svg, "path")[0]["d"], "from the least to the most")
	require.Contains(t, svg, "Lines &amp; &lt;more&gt;")
	require.Contains(t, svg, ">2.000, 2.00 × c<")
	require.Contains(t, svg, "prefers-color-scheme: dark")
	elements(t, barChart("t", "u", []bar{{name: "none"}}), "svg")
}

func TestLineChart(t *testing.T) {
	svg := lineChart("t", "u", "x", []curve{
		{"select", []point{{10, 5}, {100, 9}, {1000, 50}}},
		{"epoll", []point{{10, 5}, {100, 5}, {1000, 5}, {10_000, 5}}},
	})
	circles := elements(t, svg, "circle")
	require.Len(t, circles, 7)
	require.Equal(t, "70.0", circles[0]["cx"])
	require.Equal(t, "640.0", circles[6]["cx"])
	require.Equal(t, circles[3]["cy"], circles[6]["cy"], "as dear as before")
	require.NotEqual(t, circles[0]["cy"], circles[2]["cy"])
	for _, label := range []string{">10<", ">10,000<", ">1<", ">100<", ">select<", ">epoll<"} {
		require.Contains(t, svg, label)
	}
	for _, path := range elements(t, svg, "path") {
		require.NotContains(t, path["d"], "NaN")
	}
	for _, text := range elements(t, svg, "text") {
		if text["text-anchor"] == "start" {
			require.Equal(t, "650.0", text["x"], "beside the longest line")
		}
	}
	one := lineChart("t", "u", "x", []curve{{"epoll", []point{{10, 1}}}})
	require.NotContains(t, one, "NaN")
	require.NotContains(t, one, "Inf")
}

func TestLabelsAreSpread(t *testing.T) {
	at := func(x, y float64) label { return label{point: point{x, y}} }
	require.Equal(t, []label{at(9, 200), at(9, 100), at(9, 83), at(9, 66)},
		spread([]label{at(9, 99), at(9, 100), at(9, 200), at(9, 98)}))
	require.Equal(t, []label{at(5, 101), at(9, 100)}, spread([]label{at(9, 100), at(5, 101)}), "they are far apart as it is")
}

func TestFigures(t *testing.T) {
	for x, want := range map[float64]string{
		0.0123: "0.01230", 1: "1.000", 999.9: "999.9", 1000: "1,000", 12034.4: "12,034", 1234567: "1,234,567", 100_000: "100,000",
	} {
		require.Equal(t, want, figure(x))
	}
	require.Equal(t, "0.1", grouped(0.1))
	require.Equal(t, "100", grouped(100))
	require.Equal(t, "1,000.5", grouped(1000.5))
	for x, want := range map[float64]string{0.999: "1.00", 9.87: "9.87", 188.33: "188", 1234.5: "1,235"} {
		require.Equal(t, want, factor(x))
	}
}
