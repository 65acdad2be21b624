import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.Base64;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.AwsCredentials;
import software.amazon.awssdk.auth.credentials.AwsSessionCredentials;
import software.amazon.awssdk.auth.signer.Aws4Signer;
import software.amazon.awssdk.auth.signer.params.Aws4PresignerParams;
import software.amazon.awssdk.core.util.VersionInfo;
import software.amazon.awssdk.http.SdkHttpFullRequest;
import software.amazon.awssdk.http.SdkHttpMethod;
import software.amazon.awssdk.regions.Region;

/** AWS SDK for Java v2 with the signer of most published recipes, Aws4Signer.presign (deprecated since 2.21). */
@SuppressWarnings("deprecation")
public final class JavaV2Aws4 {
    public static void main(String[] args) throws Exception {
        String session = System.getenv("AWS_SESSION_TOKEN");
        String key = System.getenv("AWS_ACCESS_KEY_ID");
        String secret = System.getenv("AWS_SECRET_ACCESS_KEY");
        AwsCredentials credentials = session == null
                ? AwsBasicCredentials.create(key, secret)
                : AwsSessionCredentials.create(key, secret, session);
        SdkHttpFullRequest request = SdkHttpFullRequest.builder()
                .method(SdkHttpMethod.GET)
                .uri(new URI("https", System.getenv("STS_HOST"), System.getenv().getOrDefault("URL_PATH", "/"), null))
                .appendHeader("x-k8s-aws-id", System.getenv("CLUSTER_ID"))
                .appendRawQueryParameter("Action", "GetCallerIdentity")
                .appendRawQueryParameter("Version", "2011-06-15")
                .build();
        Instant at = Instant.parse(System.getenv("SIGN_AT"));
        Aws4PresignerParams parameters = Aws4PresignerParams.builder()
                .awsCredentials(credentials)
                .signingRegion(Region.of(System.getenv("AWS_REGION")))
                .signingName("sts")
                .signingClockOverride(Clock.fixed(at, ZoneOffset.UTC))
                .expirationTime(at.plus(Duration.ofSeconds(60)))
                .build();
        String url = Aws4Signer.create().presign(request, parameters).getUri().toString();
        Files.writeString(Path.of(System.getenv("VERSION_OUT")), VersionInfo.SDK_VERSION);
        System.out.println("k8s-aws-v1." + Base64.getUrlEncoder().withoutPadding().encodeToString(url.getBytes(StandardCharsets.UTF_8)));
    }
}
