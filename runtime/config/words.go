package config

import (
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// wrongValue says what is wrong with a value and what would be right. The values
// of secrets are left out.
func wrongValue(k jsonschema.ErrorKind, v any, sub map[string]any) (problem, remedy string) {
	secret := sub["writeOnly"] == true
	is := "is " + describe(v)
	if s, ok := v.(string); ok {
		is = "is " + quoted(s)
	}
	if secret {
		is = "has a value"
	}
	switch k := k.(type) {
	case *kind.Type:
		if v == nil {
			return "has no value", "write " + wanted(k.Want, sub) + ", or remove the key"
		}
		if !secret {
			is = "is " + describe(v)
		}
		return is + ", want " + wanted(k.Want, sub), typeRemedy(k.Want, v, sub, secret)
	case *kind.Enum:
		return enumProblem(k, v, is)
	case *kind.Const:
		return is, fmt.Sprintf("write %v", k.Want)
	case *kind.Pattern:
		if isDuration(sub) {
			return is + ", want a duration", "write it as " + examples(sub, "30s")
		}
		if k.Want == windowPattern {
			return is + ", want a window of the day", "write it as " + examples(sub, "22:00-04:00")
		}
		return is + ", which does not match " + k.Want, exampleRemedy(sub)
	case *kind.MinLength:
		if v == "" {
			return "is empty", "write a value" + ofExample(sub)
		}
		return fmt.Sprintf("has %d characters, want %d or more", k.Got, k.Want), ""
	case *kind.MaxLength:
		return fmt.Sprintf("has %d characters, want %d or less", k.Got, k.Want), ""
	case *kind.MinItems:
		if k.Got == 0 {
			return "is empty", "write at least " + strconv.Itoa(k.Want) + aboutOf(sub)
		}
		return fmt.Sprintf("has %d entries, want %d or more", k.Got, k.Want), ""
	case *kind.MaxItems:
		return fmt.Sprintf("has %d entries, want %d or less", k.Got, k.Want), ""
	case *kind.UniqueItems:
		return fmt.Sprintf("entries %d and %d are the same", k.Duplicates[0]+1, k.Duplicates[1]+1), "remove one of them"
	case *kind.Minimum:
		return measured(v, secret) + ", want " + number(k.Want) + " or more", ""
	case *kind.Maximum:
		return measured(v, secret) + ", want " + number(k.Want) + " or less", ""
	case *kind.ExclusiveMinimum:
		return measured(v, secret) + ", want more than " + number(k.Want), ""
	case *kind.ExclusiveMaximum:
		return measured(v, secret) + ", want less than " + number(k.Want), ""
	}
	if secret {
		return "is not what the schema allows", ""
	}
	return strings.ReplaceAll(k.LocalizedString(english), "'", `"`), ""
}

func measured(v any, secret bool) string {
	if secret {
		return "has a value"
	}
	return fmt.Sprintf("is %v", v)
}

func enumProblem(k *kind.Enum, v any, is string) (problem, remedy string) {
	var words []string
	for _, w := range k.Want {
		words = append(words, fmt.Sprint(w))
	}
	want := list(words)
	if len(words) > 1 {
		want = "one of " + want
	}
	s, _ := v.(string)
	if s != "" && is != "has a value" {
		if meant := didYouMean(s, words); meant != "" {
			return is + ", want " + want, "did you mean " + meant + "?"
		}
	}
	return is + ", want " + want, ""
}

func number(r *big.Rat) string {
	f, _ := r.Float64()
	return strconv.FormatFloat(f, 'f', -1, 64)
}

func isDuration(sub map[string]any) bool {
	p, _ := sub["pattern"].(string)
	return strings.Contains(p, "(ns|us|µs|ms|s|m|h)")
}

// wanted names the types that a schema wants.
func wanted(types []string, sub map[string]any) string {
	names := map[string]string{
		"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false",
		"array": "a list", "object": "a section of keys", "null": "nothing",
	}
	var out []string
	for _, t := range types {
		if t == "string" && isDuration(sub) {
			out = append(out, "a duration such as "+examples(sub, "30s"))
			continue
		}
		out = append(out, names[t])
	}
	return strings.Join(out, " or ")
}

// typeRemedy says how the value that was meant is written.
func typeRemedy(want []string, v any, sub map[string]any, secret bool) string {
	s, isText := v.(string)
	_, isList := v.([]any)
	_, isMap := v.(map[string]any)
	has := func(t string) bool { return slices.Contains(want, t) }
	switch {
	case isText && has("boolean"):
		switch strings.ToLower(s) {
		case "yes", "on", "true", "y":
			return "write true without quotes"
		case "no", "off", "false", "n":
			return "write false without quotes"
		}
	case isText && (has("integer") || has("number")):
		if _, err := strconv.ParseFloat(s, 64); err == nil && !secret {
			return "write " + s + " without quotes"
		}
	case isText && has("array") && !secret:
		return "write [" + s + "]"
	case has("object"):
		return "write its keys below it, indented"
	case has("string") && isDuration(sub) && !isList && !isMap && v != nil:
		if !secret && fmt.Sprint(v) != "true" && fmt.Sprint(v) != "false" {
			return fmt.Sprintf("add the unit, as in %vs", v)
		}
	case has("string") && !isList && !isMap && !secret:
		return fmt.Sprintf(`write it in quotes: "%v"`, v)
	case has("string") && !isList && !isMap:
		return "write it in quotes"
	case has("string") && isList:
		return "write one value, without brackets"
	}
	return ""
}

func examples(sub map[string]any, otherwise string) string {
	all, _ := sub["examples"].([]any)
	if len(all) == 0 {
		return otherwise
	}
	words := make([]string, len(all))
	for i, e := range all {
		words[i] = fmt.Sprint(e)
	}
	return strings.Join(words, " or ")
}

func exampleRemedy(sub map[string]any) string {
	if e := examples(sub, ""); e != "" {
		return "write it as " + e
	}
	return strings.Trim(aboutOf(sub), " ()")
}

func ofExample(sub map[string]any) string {
	if e := examples(sub, ""); e != "" {
		return " such as " + e
	}
	return aboutOf(sub)
}

// aboutOf is what the schema says of the value, for the end of a message: its
// first sentence, in brackets.
func aboutOf(sub map[string]any) string {
	about, _ := sub["description"].(string)
	if about == "" {
		return ""
	}
	about, _, _ = strings.Cut(about, ". ")
	return " (" + strings.TrimSuffix(about, ".") + ")"
}

// namePattern is what nodes, hosts, groups, locations, ports and clusters are
// called.
const namePattern = `^[a-z0-9][a-z0-9-]{0,62}$`

var (
	validName = regexp.MustCompile(namePattern)
	notOfName = regexp.MustCompile(`[^a-z0-9]+`)
)

// nameRemedy says what a name looks like, with one that is near.
func nameRemedy(name string) string {
	near := notOfName.ReplaceAllString(strings.ToLower(name), "-")
	near = strings.Trim(near[:min(len(near), 63)], "-")
	rule := "names have up to 63 small letters, digits and dashes and begin with a letter or digit"
	if validName.MatchString(near) {
		return rule + ", such as " + near
	}
	return rule
}
