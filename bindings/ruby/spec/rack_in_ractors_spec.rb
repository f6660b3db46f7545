# frozen_string_literal: true

RSpec.describe Kino::RackInRactors do
  # Answers with what Rack reads of the request.
  module Reading
    def self.call(env)
      request = Rack::Request.new(env)
      response = Rack::Response.new
      response.set_cookie("seen", "yes")
      response.write(
        [request.params.to_a, request.cookies.to_a, request.ip, request.host, request.media_type,
         Rack::Mime.mime_type(".html"), Rack::Utils.escape("a b")].inspect
      )
      response.finish
    end
  end

  def serve_reading(&) = serve(Rack::Lint.new(Reading), mode: :ractor, &)

  it "lets apps read queries, cookies and addresses" do
    serve_reading do |server|
      answer = Client.get(server.port, "/?a[]=1&a[]=2", "Cookie: c=d", "X-Forwarded-For: 1.2.3.4")
      expect(answer.body).to eq [[["a", %w[1 2]]], [%w[c d]], "1.2.3.4", "example.org", nil,
                                 "text/html", "a+b"].inspect
      expect(answer["set-cookie"]).to eq "seen=yes"
    end
  end

  it "lets apps read forms" do
    serve_reading do |server|
      Client.open(server.port) do |client|
        client.request("POST", "/", "Content-Type: application/x-www-form-urlencoded", body: "a=b&c=d")
        expect(client.answer.body).to start_with '[[["a", "b"], ["c", "d"]]'
      end
    end
  end

  it "lets apps read uploads" do
    parts = "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--x--\r\n"
    serve_reading do |server|
      Client.open(server.port) do |client|
        client.request("POST", "/", "Content-Type: multipart/form-data; boundary=x", body: parts)
        expect(client.answer.body).to start_with '[[["a", "b"]]'
      end
    end
  end
end
