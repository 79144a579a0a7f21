package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// print writes v as JSON or YAML, or what table makes of it.
func (c *cli) print(v any, table func(*page)) error {
	var out []byte
	var err error
	switch c.output {
	case "json":
		out, err = toJSON(v, "  ")
	case "yaml":
		out, err = toYAML(v)
	default:
		p := c.newPage()
		table(p)
		out = p.Bytes()
	}
	if err != nil {
		return err
	}
	return c.write(out)
}

func (c *cli) write(out []byte) error {
	if _, err := c.env.out.Write(out); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

func toJSON(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	err := e.Encode(v)
	return b.Bytes(), err
}

// toYAML goes by way of JSON, so that both have the same names and order.
func toYAML(v any) ([]byte, error) {
	data, err := toJSON(v, "")
	if err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	blockStyle(&doc)
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(&doc); err != nil {
		return nil, err
	}
	err = e.Close()
	return b.Bytes(), err
}

// blockStyle undoes JSON's braces and quotes; the encoder quotes what needs it.
func blockStyle(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		blockStyle(child)
	}
}

// style is how a cell looks on a terminal with colour.
type style string

const (
	plain style = ""
	bold  style = "1"
	dim   style = "2"
	bad   style = "1;31"
	good  style = "32"
	warn  style = "33"
)

// cell is one field of a table.
type cell struct {
	text  string
	style style
}

// page collects output for people. Piped, it is the same text without colour and
// with nothing cut off.
type page struct {
	bytes.Buffer
	colour   bool
	terminal bool
}

func (c *cli) newPage() *page {
	colour := c.env.terminal && c.env.getenv("NO_COLOR") == "" && c.env.getenv("TERM") != "dumb"
	return &page{colour: colour, terminal: c.env.terminal}
}

// say writes one line.
func (p *page) say(s style, format string, args ...any) {
	p.WriteString(p.paint(s, clean(fmt.Sprintf(format, args...))))
	p.WriteByte('\n')
}

// fit shortens text for a terminal; piped it stays whole.
func (p *page) fit(text string, width int) string {
	if !p.terminal || utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:width-1]) + "…"
}

// section writes a title and a table under it, with an empty line before it.
func (p *page) section(title string, header []string, rows [][]cell) {
	if p.Len() > 0 {
		p.WriteByte('\n')
	}
	p.say(bold, "%s", title)
	if len(rows) == 0 {
		p.say(dim, "none")
		return
	}
	p.table(header, rows)
}

// fact is one thing that is known.
type fact struct{ name, value string }

// facts writes one thing a line, and "-" where nothing is known.
func (p *page) facts(all []fact) {
	width := 0
	for _, f := range all {
		width = max(width, utf8.RuneCountInString(f.name))
	}
	for _, f := range all {
		value := cell{text: clean(f.value)}
		if value.text == "" {
			value = cell{"-", dim}
		}
		p.row([]cell{{f.name, dim}, value}, []int{width})
	}
}

// table writes aligned columns. An empty cell is shown as "-", so that columns can
// be counted.
func (p *page) table(header []string, rows [][]cell) {
	width := make([]int, len(header))
	for i, h := range header {
		width[i] = utf8.RuneCountInString(h)
	}
	for _, row := range rows {
		for i := range row {
			row[i].text = clean(row[i].text)
			if row[i].text == "" {
				row[i] = cell{"-", dim}
			}
			width[i] = max(width[i], utf8.RuneCountInString(row[i].text))
		}
	}
	head := make([]cell, len(header))
	for i, h := range header {
		head[i] = cell{h, dim}
	}
	p.row(head, width)
	for _, row := range rows {
		p.row(row, width)
	}
}

func (p *page) row(row []cell, width []int) {
	for i, c := range row {
		p.WriteString(p.paint(c.style, c.text))
		if i < len(row)-1 {
			pad := width[i] - utf8.RuneCountInString(c.text) + 2
			p.WriteString(strings.Repeat(" ", pad))
		}
	}
	p.WriteByte('\n')
}

func (p *page) paint(s style, text string) string {
	if !p.colour || s == plain {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// clean makes text safe for a terminal: names and errors come from foreign
// servers, and escape sequences in them must not act.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t', r == '\r':
			return ' '
		case unicode.IsPrint(r):
			return r
		default:
			return utf8.RuneError
		}
	}, text)
}

// cleanLines is clean for text of several lines.
func cleanLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = clean(lines[i])
	}
	return strings.Join(lines, "\n")
}

// warnf prints a line for people beside the output.
func (c *cli) warnf(format string, args ...any) {
	warnTo(c.env.err, format, args...)
}

func warnTo(w io.Writer, format string, args ...any) {
	fmt.Fprintln(w, clean(fmt.Sprintf(format, args...)))
}
