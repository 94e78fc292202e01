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
	require.Equal(t, []string{"ours", "225.0", "120"}, []string{rects[0]["class"], rects[0]["width"], rects[0]["x"]})
	require.Equal(t, []string{"other", "112.5", "120"}, []string{rects[1]["class"], rects[1]["width"], rects[1]["x"]})
	require.Equal(t, "M232.5 60H570.0", elements(t, svg, "path")[0]["d"], "from the least to the most")
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
	require.Equal(t, "620.0", circles[6]["cx"])
	require.Equal(t, circles[3]["cy"], circles[6]["cy"], "as dear as before")
	require.NotEqual(t, circles[0]["cy"], circles[2]["cy"])
	for _, label := range []string{">10<", ">10000<", ">1<", ">100<", ">select<", ">epoll<"} {
		require.Contains(t, svg, label)
	}
	for _, path := range elements(t, svg, "path") {
		require.NotContains(t, path["d"], "NaN")
	}
	one := lineChart("t", "u", "x", []curve{{"epoll", []point{{10, 1}}}})
	require.NotContains(t, one, "NaN")
	require.NotContains(t, one, "Inf")
}
