# frozen_string_literal: true

require_relative "../lib/kino_bench"

RSpec.describe KinoBench::Wrk do
  let(:output) { <<~WRK }
    Running 2s test @ http://127.0.0.1:9399/plaintext
      1 threads and 64 connections
      Thread Stats   Avg      Stdev     Max   +/- Stdev
        Latency   259.08us  119.03us   3.50ms   90.10%
    Requests/sec: 133349.64
    {"requests":267074,"duration_us":2002810,"p50_us":2,"p99_us":49,"errors":{"read":3,"write":0}}
  WRK

  def wrk(**options)
    described_class.new(connections: 64, threads: 2, pipeline: 16, cores: nil, **options)
  end

  it "reads the summary, and of the errors those that happened" do
    expect(described_class.parse(output)).to have_attributes(
      requests: 267_074, seconds: 2.00281, p50_us: 2, p99_us: 49,
      errors: { read: 3 }
    )
  end

  it "repeats what wrk said instead of a summary" do
    expect { described_class.parse("unable to connect to 127.0.0.1:9 Connection refused\n") }
      .to raise_error(KinoBench::Failure, /Connection refused/)
  end

  it "passes the depth of pipelining to the script, which exists" do
    command = wrk.command("http://127.0.0.1:1/", 5)
    expect(command.join(" "))
      .to eq "wrk -c 64 -t 2 -d 5s -s #{described_class::SCRIPT} http://127.0.0.1:1/ -- 16"
    expect(File).to exist(described_class::SCRIPT)
  end

  it "pins wrk to its cores" do
    expect(wrk(cores: "1").command("http://x/", 1).take(4)).to eq %w[taskset -c 1 wrk]
  end
end
