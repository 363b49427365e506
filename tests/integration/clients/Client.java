// What the tests ask of every HTTP client, of the one in Java's library: it asks for h2c in its first request.

import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.ArrayList;
import java.util.List;

public class Client {
    static final List<String> seen = new ArrayList<>();

    public static void main(String[] arguments) throws Exception {
        String base = arguments[0];
        HttpResponse<String> response;

        response = client().send(request(base + "/shown?colour=gr%C3%BCn&q=a+b").header("X-Custom", "yes").build(),
            BodyHandlers.ofString());
        saw("get", response.statusCode(), response.body());

        response = client().send(post(base + "/shown", BodyPublishers.ofString("{\"text\":\"grüße\"}"))
            .header("Content-Type", "application/json").build(), BodyHandlers.ofString());
        saw("json", response.statusCode(), response.body());

        byte[] bytes = new byte[300_000];
        for (int number = 0; number < bytes.length; number++) bytes[number] = (byte) (number % 251);
        response = client().send(post(base + "/shown", BodyPublishers.ofByteArray(bytes)).build(),
            BodyHandlers.ofString());
        saw("binary", response.statusCode(), response.body());

        HttpClient client = client();
        HttpResponse<InputStream> pieces = client.send(request(base + "/pieces").build(), BodyHandlers.ofInputStream());
        String first = new String(pieces.body().readNBytes(5));
        client.send(post(base + "/go-on", BodyPublishers.noBody()).build(), BodyHandlers.discarding());
        String rest = new String(pieces.body().readAllBytes());
        saw("pieces", quoted(pieces.headers().firstValue("content-type").get()), quoted(first), quoted(rest));

        response = client.send(request(base + "/file").header("Range", "bytes=100-104").build(),
            BodyHandlers.ofString());
        saw("range", response.statusCode(), quoted(response.headers().firstValue("content-range").get()),
            quoted(response.body()));
        String tag = response.headers().firstValue("etag").get();
        response = client.send(request(base + "/file").header("If-None-Match", tag).build(), BodyHandlers.ofString());
        saw("unchanged", response.statusCode(), quoted(response.headers().firstValue("last-modified").get()),
            quoted(response.body()));

        response = client.send(request(base + "/nowhere").build(), BodyHandlers.ofString());
        saw("missing", response.statusCode(), response.body());
        System.out.println("{" + String.join(",", seen) + "}");
    }

    /** A new one asks for h2c again. */
    static HttpClient client() {
        return HttpClient.newHttpClient();
    }

    static HttpRequest.Builder request(String url) {
        return HttpRequest.newBuilder(URI.create(url));
    }

    static HttpRequest.Builder post(String url, BodyPublisher body) {
        return request(url).POST(body);
    }

    static String quoted(String text) {
        return "\"" + text + "\"";
    }

    static void saw(String what, Object... values) {
        List<String> texts = new ArrayList<>();
        for (Object value : values) texts.add(value.toString());
        seen.add(quoted(what) + ":[" + String.join(",", texts) + "]");
    }
}
