// What the tests ask of every HTTP client, of the one in Go's library.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

var seen = map[string][]any{}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func send(method, url string, body io.Reader, headers ...string) *http.Response {
	request, err := http.NewRequest(method, url, body)
	check(err)
	for at := 0; at < len(headers); at += 2 {
		request.Header.Set(headers[at], headers[at+1])
	}
	response, err := http.DefaultClient.Do(request)
	check(err)
	return response
}

func text(response *http.Response) string {
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	check(err)
	return string(data)
}

func value(response *http.Response) any {
	var value any
	check(json.Unmarshal([]byte(text(response)), &value))
	return value
}

func main() {
	base := os.Args[1]
	response := send("GET", base+"/shown?colour=gr%C3%BCn&q=a+b", nil, "X-Custom", "yes")
	seen["get"] = []any{response.StatusCode, value(response)}

	response = send("POST", base+"/shown", strings.NewReader(`{"text":"grüße"}`), "Content-Type", "application/json")
	seen["json"] = []any{response.StatusCode, value(response)}

	data := make([]byte, 300_000)
	for number := range data {
		data[number] = byte(number % 251)
	}
	// of unknown length, so that it goes out in chunks, and only when the engine says that it may
	body := io.MultiReader(bytes.NewReader(data))
	response = send("POST", base+"/shown", body, "Expect", "100-continue")
	seen["binary"] = []any{response.StatusCode, value(response)}

	response = send("GET", base+"/pieces", nil)
	first := make([]byte, 5)
	_, err := io.ReadFull(response.Body, first)
	check(err)
	text(send("POST", base+"/go-on", nil))
	seen["pieces"] = []any{response.Header.Get("content-type"), string(first), text(response)}

	response = send("GET", base+"/file", nil, "Range", "bytes=100-104")
	seen["range"] = []any{response.StatusCode, response.Header.Get("content-range"), text(response)}
	response = send("GET", base+"/file", nil, "If-None-Match", response.Header.Get("etag"))
	seen["unchanged"] = []any{response.StatusCode, response.Header.Get("last-modified"), text(response)}

	response = send("GET", base+"/nowhere", nil)
	seen["missing"] = []any{response.StatusCode, value(response)}
	check(json.NewEncoder(os.Stdout).Encode(seen))
}
