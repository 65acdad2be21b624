import io.kubernetes.client.openapi.ApiClient;
import io.kubernetes.client.util.credentials.EKSAuthentication;
import java.nio.file.Files;
import java.nio.file.Path;
import okhttp3.MediaType;
import okhttp3.OkHttpClient;
import okhttp3.Protocol;
import okhttp3.Request;
import okhttp3.Response;
import okhttp3.ResponseBody;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.AwsCredentials;
import software.amazon.awssdk.auth.credentials.AwsSessionCredentials;
import software.amazon.awssdk.core.util.VersionInfo;

/** The Kubernetes Java client's own EKSAuthentication: the token is read off the request that it would send. */
public final class ClientJava {
    public static void main(String[] args) throws Exception {
        String session = System.getenv("AWS_SESSION_TOKEN");
        String key = System.getenv("AWS_ACCESS_KEY_ID");
        String secret = System.getenv("AWS_SECRET_ACCESS_KEY");
        AwsCredentials credentials = session == null
                ? AwsBasicCredentials.create(key, secret)
                : AwsSessionCredentials.create(key, secret, session);
        ApiClient client = new ApiClient();
        new EKSAuthentication(() -> credentials, System.getenv("AWS_REGION"), System.getenv("CLUSTER_ID"), 60).provide(client);
        String[] header = new String[1];
        OkHttpClient http = client.getHttpClient().newBuilder().addInterceptor(chain -> {
            header[0] = chain.request().header("Authorization");
            return new Response.Builder().request(chain.request()).protocol(Protocol.HTTP_1_1).code(200).message("OK")
                    .body(ResponseBody.create("", MediaType.get("text/plain"))).build();
        }).build();
        http.newCall(new Request.Builder().url("https://localhost/").build()).execute().close();
        String jar = EKSAuthentication.class.getProtectionDomain().getCodeSource().getLocation().getPath();
        Files.writeString(Path.of(System.getenv("VERSION_OUT")),
                jar.replaceAll(".*/|\\.jar$", "") + ", AWS SDK " + VersionInfo.SDK_VERSION);
        System.out.println(header[0].replaceFirst("^Bearer ", ""));
        System.exit(0);
    }
}
